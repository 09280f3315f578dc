"""Starting is cheap: neither `import kinescribe` nor `kinescribe --help` loads torch."""

import os
import subprocess
import sys

import pytest

# CPU seconds, the best of three; a process that loads torch needs more than four.
BUDGETS = {"import kinescribe": 0.3, "from kinescribe.__main__ import main; main()": 1.0}
HEAVY = ("torch", "numpy", "av", "transformers", "diffusers", "matplotlib", "tokenizers")


def start(code: str) -> tuple[float, set[str]]:
    """CPU seconds of a process that runs `code` with the argument --help, and the heavy packages it loaded."""
    tail = f"print('loaded', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    program = (
        f"import atexit, sys\natexit.register(lambda: {tail})\nsys.argv = ['kinescribe', '--help']\n{code}"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    after = os.times()
    assert done.returncode == 0, done.stderr
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("code", BUDGETS)
def test_start_is_cheap_and_free_of_torch(code: str) -> None:
    runs = [start(code) for _ in range(3)]
    best = min(seconds for seconds, _ in runs)
    print(f"{code}: {best:.2f} CPU seconds of {BUDGETS[code]}")  # noqa: T201 - shown by make budget
    assert runs[0][1] == set()
    assert best < BUDGETS[code]
