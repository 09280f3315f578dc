"""One process at a time, and those who wait learn who it is."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinescribe.checkpoints.lock import only_one

HOLD = """
import sys, time
from pathlib import Path
from kinescribe.checkpoints.lock import only_one
with only_one(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until a line comes."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".potat1.lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_who_waits_is_told_which_process_holds_it_and_since_when(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        release(holder)

    with only_one(tmp_path / ".potat1.lock", tell):
        assert holder.wait(timeout=20) == 0
    (line,) = told
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.match(rf"waiting for process {holder.pid} \(since {when}\), which is at potat1; ", line)


def test_a_killed_holder_lets_go_and_is_not_named(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / ".potat1.holder").exists()
    with only_one(tmp_path / ".potat1.lock", pytest.fail):
        assert str(os.getpid()) in (tmp_path / ".potat1.holder").read_text()
    assert not (tmp_path / ".potat1.holder").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x", "host": "a", "since": "b"}'])
def test_a_spoilt_note_names_nobody(tmp_path: Path, holder: "subprocess.Popen[str]", text: str) -> None:
    (tmp_path / ".potat1.holder").write_text(text)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        release(holder)

    started = time.monotonic()
    with only_one(tmp_path / ".potat1.lock", tell):
        assert time.monotonic() - started < 20
    assert told[0].startswith("waiting for another process, ")


def test_a_holder_on_another_machine_is_named_with_it(
    tmp_path: Path, holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinescribe.checkpoints.lock.platform.node", lambda: "elsewhere")
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        release(holder)

    with only_one(tmp_path / ".potat1.lock", tell):
        pass
    assert re.match(rf"waiting for process {holder.pid} on \S+ \(since ", told[0])


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), only_one(tmp_path / ".x.lock", pytest.fail):
            raise ValueError("inside")
