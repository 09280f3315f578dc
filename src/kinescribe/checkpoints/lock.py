"""One process at a time at one model of the store, and word of who it is for those who wait."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path


@contextmanager
def only_one(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file ``path``; while another process holds it, wait.

    ``tell`` then gets one line that says which process it is and since when. A process that dies lets go.
    """
    # torch itself depends on filelock
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    # Beside the lock: whoever tries a lock file empties it.
    note = path.with_suffix(".holder")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for {_holder(note)}, which is at {path.stem.lstrip('.')}; Ctrl-C ends the wait")
        lock.acquire()
    try:
        note.write_text(json.dumps(_this_process()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def _this_process() -> dict[str, int | str]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _holder(note: Path) -> str:
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        where = "" if told["host"] == platform.node() else f" on {told['host']}"
        return f"process {int(told['pid'])}{where} (since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it holds the lock, and has not written yet
        return "another process"
