"""What a file is, told by its bytes: names decide nothing, and nothing but files and folders is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from kinescribe.errors import OptionError

LARGEST_FRAME = 25_000_000  # pixels
LARGEST_CLIP = 8 << 30  # bytes of decoded frames
HEAD = 64  # bytes that tell what a file is

Container = Literal["mp4", "matroska", "avi", "picture"]


def existing(path: str | Path, wanted: str) -> Path:
    """The absolute path of a file or folder that is there; `wanted`, such as "a clip", ends the advice.

    `http://host/x.mp4`, `concat:a|b` and `pipe:0` are names of files, whatever another program makes of them.
    Raises OptionError for anything missing, and for devices and pipes.
    """
    text = str(path)
    try:
        source = Path(path).expanduser()
        found = bool(text.strip()) and "\0" not in text and source.exists()
    except (OSError, RuntimeError):
        found = False
    if not found:
        more = " (addresses are not opened: download it first)" if "://" in text else ""
        raise OptionError(f"{text!r}: no such file; give the path of {wanted}{more}")
    if not (source.is_file() or source.is_dir()):
        raise OptionError(f"{text!r} is a device or a pipe: save its content, and give the path of {wanted}")
    return source.absolute()


@contextmanager
def opened(source: Path) -> Iterator[IO[bytes]]:
    """The file for reading; OptionError with the system's reason if it cannot be opened."""
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise OptionError(f"cannot read {source.name}: {error.strerror}; check its permissions") from error
    with file:
        yield file


def sniff(head: bytes) -> Container | None:
    """The container that the first bytes of a file show; None if it is no video or picture we read."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    if webp or head[:4] == b"GIF8" or head[:8] == b"\x89PNG\r\n\x1a\n":
        return "picture"
    return None


def refusal(head: bytes, wanted: str) -> str:
    """What a file is that is not `wanted` ("video"), and what to do: `is ...: ...`, to follow its name."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "is empty: copy or download it again"
    if start.startswith(b"#extm3u"):
        return f"is a playlist, no {wanted}: give the {wanted} itself"
    if start.startswith(b"version https://git-lfs"):
        return f"is a Git LFS pointer, no {wanted}: run `git lfs pull`"
    if start.startswith(b"<svg"):
        return f"is a drawing in SVG, no {wanted}: save it as PNG"
    if start.startswith(b"<"):
        return f"is a web page, no {wanted}: download the {wanted} itself"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif"):
        return "is a HEIC or AVIF picture: save it as JPEG or PNG"
    if sniff(head) not in (None, "picture"):
        return f"is a video, no {wanted}"
    return f"is no {wanted}"


def check_size(width: int, height: int, count: int = 1, *, name: str = "a frame") -> None:
    """OptionError if frames are too large to be decoded, one alone or `count` together; `name` says which."""
    if width * height > LARGEST_FRAME:
        limit = f"{LARGEST_FRAME / 1e6:.0f} million pixels"
        raise OptionError(f"{name} is {width}x{height}: the limit is {limit}; make it smaller")
    if width * height * 3 * count > LARGEST_CLIP:
        raise OptionError(
            f"{count} frames of {width}x{height}: the limit is {LARGEST_CLIP >> 30} GiB; cut the clip"
        )
