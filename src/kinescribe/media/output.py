"""Where a result goes: everything checkable is checked before the work, and a name holds a whole file or none."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from kinescribe.errors import OptionError, WriteError

Format = Literal["mp4", "webm", "gif", "webp", "png"]

EXTENSIONS: dict[str, Format] = {".mp4": "mp4", ".webm": "webm", ".gif": "gif", ".webp": "webp"}
ENCODERS: dict[str, str] = {"mp4": "libx264", "webm": "libvpx-vp9"}
ROOM = 1 << 20
NAME_BYTES = 255


def output_format(path: str | Path) -> Format:
    """The format a name asks for: by its extension; a folder, or a name without extension, means PNG frames.

    Raises OptionError for any other extension.
    """
    name = Path(path)
    if str(path).endswith("/") or not name.suffix or name.is_dir():
        return "png"
    if name.suffix.lower() in EXTENSIONS:
        return EXTENSIONS[name.suffix.lower()]
    known = " ".join(EXTENSIONS)
    raise OptionError(f"{name.name!r}: no such video format; use one of {known}, or folder/ for PNG frames")


def check_output(path: str | Path, overwrite: bool = False, *, room: int = ROOM) -> Path:
    """Make sure that a clip can be written to `path`, creating missing folders; the absolute path back.

    A name is a file name, whatever it looks like: `http://host/x.mp4` is a file in a folder called `http:`.
    Raises OptionError for an unknown extension, WriteError for a name that cannot be written, for an existing
    file without `overwrite`, for an absent encoder, and for less than `room` free bytes.
    """
    _absolute(path)
    kind = output_format(path)
    _check_encoder(kind)
    final = check_file(path, overwrite, room=room)
    if kind == "png":
        _check_folder(final)
    return final


def check_file(path: str | Path, overwrite: bool, *, room: int = ROOM) -> Path:
    """`check_output` for a file of any kind: name, folder, permission, room on the disk, existing file."""
    final = _absolute(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        exists = final.is_dir() and any(final.iterdir()) or final.is_file()
        probe = final.parent / _temporary_name()
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(final.parent).free
    except OSError as error:
        raise cannot_write(final, error) from error
    if exists and not overwrite:
        raise WriteError(
            f"{final} exists: add --overwrite, or choose another name, such as {free_name(final).name}"
        )
    if free < room:
        have, need = free / 1e6, room / 1e6
        raise WriteError(f"{final.parent}: {have:.1f} MB free and {need:.1f} MB needed: free some space")
    return final


def free_name(path: Path) -> Path:
    """`path`, or the first of `clip-1.mp4`, `clip-2.mp4` ... that does not exist."""
    number, name = 0, path
    while name.exists():
        number += 1
        name = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return name


def cannot_write(path: Path, error: Exception) -> WriteError:
    """The one line for a failed write, with the system's own reason."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return WriteError(f"cannot write {path}: {reason}; choose another place with -o, or free space there")


@contextmanager
def whole_file(final: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path beside `final`; when the block ends well it becomes `final`, whole and on the disk.

    Whatever goes wrong, also Ctrl-C, the temporary file is removed. OSError becomes WriteError.
    """
    temporary = final.parent / _temporary_name()
    try:
        yield temporary
        _sync(temporary)
        _rename(temporary, final, overwrite)
        _sync(final.parent)
    except WriteError:
        raise
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def whole_folder(final: Path, *, overwrite: bool) -> Iterator[Path]:
    """`whole_file` for a folder of PNG frames; an older folder of frames is replaced as a whole."""
    temporary = final.parent / _temporary_name()
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if overwrite and final.is_dir():
            _check_folder(final)
            shutil.rmtree(final)
        temporary.rename(final)
        _sync(final.parent)
    except WriteError:
        raise
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _absolute(path: str | Path) -> Path:
    if hasattr(path, "write"):
        raise TypeError(
            f"a clip is saved under a name, not into a {type(path).__name__}: use file.write(video.encoded())"
        )
    text = str(path)
    if "\0" in text:
        raise WriteError(f"{text!r} holds a NUL character: choose another file name with -o")
    final = Path(path).expanduser().absolute()
    longest = max((len(os.fsencode(part)) for part in final.parts), default=0)
    if longest > NAME_BYTES:
        raise WriteError(f"a name of {longest} bytes is too long, {NAME_BYTES} is the limit: shorten -o")
    if not final.name:
        raise WriteError(f"{text!r} is no file name: give one with -o, such as clip.mp4")
    return final


def _check_encoder(kind: Format) -> None:
    from av.codec import codecs_available

    if kind in ENCODERS and ENCODERS[kind] not in codecs_available:
        there = [
            e for e, k in EXTENSIONS.items() if ENCODERS.get(k, "") in codecs_available or k not in ENCODERS
        ]
        raise WriteError(
            f"no {ENCODERS[kind]} encoder for .{kind} in this PyAV: use {' '.join(there)} or folder/"
        )


def _check_folder(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but frames: it is not ours to delete."""
    if not folder.is_dir():
        return
    foreign = [f.name for f in folder.iterdir() if not (f.name.startswith("frame-") and f.suffix == ".png")]
    if foreign:
        raise WriteError(
            f"{folder} holds other files, such as {foreign[0]!r}: name a folder of its own for the frames"
        )


def _temporary_name() -> str:
    return f".kinescribe-{secrets.token_hex(6)}.part"


def _rename(temporary: Path, final: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(final)
        return
    try:
        final.hardlink_to(temporary)  # unlike a rename, never replaces a file that appeared meanwhile
    except FileExistsError as error:
        raise WriteError(f"{final} appeared meanwhile: add --overwrite, or choose another name") from error
    except OSError:  # a file system without hard links
        if final.exists():
            raise WriteError(f"{final} appeared meanwhile: add --overwrite, or choose another name") from None
        temporary.replace(final)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != 22 and not path.is_dir():  # some file systems cannot sync folders
            raise
    finally:
        os.close(handle)
