"""Folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kinescribe.errors import OptionError, WriteError


@contextmanager
def staged(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its place when the block ends well.

    Everything in it is flushed to the disk first; after a failure nothing is left.

    Raises:
        OptionError: ``target`` exists and holds something, and ``overwrite`` is not set.
        WriteError: the disk is full or the place cannot be written.
    """
    target = target.absolute()
    if target.exists() and not overwrite and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target} exists already: choose another folder, or overwrite it (--overwrite)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror}): choose another folder") from error
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        for path in (*folder.rglob("*"), folder):
            flush(path)
        _swap(folder, target)
        flush(target.parent)
    except OSError as error:
        raise WriteError(f"{target}: not written ({error.strerror or error}): free space or choose another folder") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    old = folder.with_suffix(".old")
    target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
