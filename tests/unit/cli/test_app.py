import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goldens import folder
from kinescribe.cli.app import COMMANDS, build, run

ROOT = Path(__file__).parents[3]
TINY = folder("text_to_video/diffusers")
Cli = Callable[..., Any]


def default_signals() -> None:
    """In a child: handle signals as a terminal's programs do, even where the test run itself ignores them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """`kinescribe` in a process of its own, with both streams piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "kinescribe", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=default_signals,
    )  # fmt: skip


def test_the_script_entry_is_main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["kinescribe"] == "kinescribe.__main__:main"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_torch(command: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom kinescribe.cli.app import run\n"
        f"code = run([{command!r}, '--help'])\nsys.exit(code or ('torch' in sys.modules) * 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: kinescribe {command}"), done.stderr


def test_help_without_a_command_names_every_command(cli: Cli) -> None:
    done = cli()
    assert done.code == 0 and all(re.search(rf"│ {name} ", done.out) for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("genrate", "x"), "did you mean generate?"),
        (("a", "cat", "-o", "x.mp4"), 'kinescribe generate "a cat"'),
        (("--frames", "3"), "see kinescribe --help"),
        (("generate", "--output"), "see kinescribe generate --help"),
        (("a red ball", "--frames", "x"), "see kinescribe generate --help"),
        (("inspect",), "see kinescribe inspect --help"),
        (("models", "lsit"), "see kinescribe models --help"),
        (("models", "show"), "see kinescribe models show --help"),
    ],
)
def test_a_wrong_command_line_is_exit_2_with_advice(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli(*arguments)
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1 and done.out == ""


def test_version_is_the_package_version(cli: Cli) -> None:
    assert cli("--version").out == "kinescribe 0.1.0\n"


def test_debug_shows_the_traceback(cli: Cli) -> None:
    assert "Traceback" in cli("generate", "crash now", "--debug").err


def test_arguments_after_two_dashes_are_a_prompt(cli: Cli, pipeline: Any) -> None:
    assert cli("generate", "--steps", "1", "--size", "8x8", "--", "--debug", "-q me").code == 0
    assert [request.prompt for request in pipeline.made] == ["--debug", "-q me"]


def test_our_warnings_are_one_line_each_and_those_of_libraries_are_silent(
    cli: Cli, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging
    import warnings

    from kinescribe.errors import KinescribeWarning

    stream = type(pipeline).stream

    def noisy(self: Any, request: Any) -> Any:
        for _ in range(2):
            warnings.warn("words were cut off", KinescribeWarning, stacklevel=1)
            warnings.warn("internal", DeprecationWarning, stacklevel=1)
        assert not logging.getLogger("torch.utils.flop_counter").isEnabledFor(logging.WARNING)
        return stream(self, request)

    monkeypatch.setattr(type(pipeline), "stream", noisy)
    done = cli("generate", "a ball", "--size", "8x8", "--steps", "1")
    assert done.err.count("warning: words were cut off\n") == 1 and "internal" not in done.err
    assert cli("generate", "a ball", "--size", "8x8", "--steps", "1", "-q").err == ""


def test_completion_can_be_made_for_every_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "kinescribe" in build().generate_completion(shell=shell)


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m kinescribe doctor --quick | true", shell=True, cwd=tmp_path, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_signals_are_as_before_after_a_run(cli: Cli) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cli("--version")
    assert signal.getsignal(signal.SIGTERM) is before
    assert run([]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_with_130_and_no_file(number: signal.Signals, tmp_path: Path) -> None:
    process = start(
        "generate", "a ball", "--model", str(TINY), "--steps", "900", "-o", "c.mp4", folder=tmp_path
    )
    assert process.stderr is not None
    while "reading the prompt" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(timeout=20) == 130
    assert process.stderr.read().endswith("cancelled: no unfinished file is left\n")
    assert list(tmp_path.iterdir()) == []


def test_a_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\nfrom kinescribe.cli import app\n"
        "def stuck(*_):\n try:\n  os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
        " finally:\n  os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
        "app._dispatch = stuck\nsys.exit(app.run(['doctor']))"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, timeout=30, check=False, preexec_fn=default_signals
    )
    assert done.returncode == 130 and time.monotonic() - begun < 20
