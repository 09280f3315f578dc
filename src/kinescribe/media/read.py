"""Read a clip and its recipe. A file is opened by its bytes, never by what its name claims."""

import json
from pathlib import Path
from typing import IO, Literal

import numpy as np
from jaxtyping import UInt8

from kinescribe.errors import OptionError
from kinescribe.media.frames import Frames
from kinescribe.media.recipe import LARGEST_RECIPE, parse_recipe
from kinescribe.media.video import Video

LARGEST_FRAME = 25_000_000  # pixels
LARGEST_CLIP = 8 << 30  # bytes of decoded frames
PNG_FPS = 8.0
EXTRA = 4096

Container = Literal["mp4", "matroska", "avi", "picture"]
Image = UInt8[np.ndarray, "h w 3"]


def read_video(path: str | Path) -> Video:
    """Decode a whole clip: mp4, mov, webm, mkv, avi, GIF, WebP, PNG, or a folder of PNG frames.

    Rotation flags are applied, sound is dropped. A recipe that is not ours, or damaged, is left out.
    Raises OptionError for anything that is missing, empty, damaged, too large, or no video.
    """
    source = _existing(path)
    frames, fps, comment = _read(source)
    try:
        recipe = parse_recipe(comment) if comment else {}
    except OptionError:
        recipe = {}
    return Video(frames=frames, fps=fps, recipe=recipe)


def read_recipe(path: str | Path) -> dict[str, object]:
    """The recipe inside a clip, checked field by field as if a stranger had written it.

    Raises OptionError if the clip has none, or one that breaks a rule.
    """
    source = _existing(path)
    comment = _comment(source)
    if not comment:
        raise OptionError(f"{source.name} holds no recipe: it was not made here, or with --no-metadata")
    return parse_recipe(comment)


def sniff(head: bytes) -> Container | None:
    """The container that the first bytes of a file show; None if it is no video or picture we read."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if (
        head[:4] == b"RIFF"
        and head[8:12] == b"WEBP"
        or head[:4] == b"GIF8"
        or head[:8] == b"\x89PNG\r\n\x1a\n"
    ):
        return "picture"
    return None


def animation(file: IO[bytes]) -> tuple[list[Image], list[int], str]:
    """Frames, milliseconds of each, and the comment of an animated GIF or WebP, or of one PNG."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(file, formats=("GIF", "WEBP", "PNG")) as image:
            count = getattr(image, "n_frames", 1)
            _check_size(image.width, image.height, count)
            comment = _picture_comment(image)
            images, times = [], []
            for index in range(count):
                image.seek(index)
                images.append(np.asarray(image.convert("RGB")))
                times.append(int(image.info.get("duration") or 0))
    except (OSError, ValueError, SyntaxError, EOFError, Pillow.DecompressionBombError) as error:
        raise OptionError(f"damaged picture ({error}): give another file") from error
    return images, times, comment


def _existing(path: str | Path) -> Path:
    text = str(path)
    source = Path(path).expanduser()
    try:
        found = "\0" not in text and source.exists()
    except OSError:
        found = False
    if not found:
        raise OptionError(f"{text!r}: no such file; give the path of a clip")
    return source.absolute()


def _kind(source: Path) -> Container:
    with source.open("rb") as file:
        head = file.read(64)
    kind = sniff(head)
    if kind is None:
        what = "is empty" if not head else "is a playlist" if head.startswith(b"#EXTM3U") else "is no video"
        raise OptionError(f"{source.name} {what}: give an mp4, mov, webm, mkv, avi, gif, webp or png file")
    return kind


def _read(source: Path) -> tuple[Frames, float, str]:
    if source.is_dir():
        return _read_folder(source)
    kind = _kind(source)
    if kind == "picture":
        with source.open("rb") as file:
            images, times, comment = animation(file)
        return _expand(images, times, _recipe_fps(comment)) + (comment,)
    return _read_container(source, kind)


def _read_container(source: Path, kind: Container) -> tuple[Frames, float, str]:
    import av

    try:
        # our own handle, the format forced from the bytes, files only: a playlist cannot make us open an address
        with (
            source.open("rb", buffering=0) as file,
            av.open(_Nameless(file), "r", format=kind, options=_local()) as clip,
        ):
            if not clip.streams.video:
                raise OptionError(f"{source.name} has no picture, only sound: give a video")
            stream = clip.streams.video[0]
            _check_size(stream.codec_context.width, stream.codec_context.height, stream.frames or 1)
            images: list[Image] = []
            for frame in clip.decode(stream):
                images.append(np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4))
                _check_size(frame.width, frame.height, len(images))
            if not images:
                raise OptionError(f"{source.name} holds no frame that can be decoded: give another file")
            return np.stack(images), float(stream.average_rate or PNG_FPS), _container_comment(clip.metadata)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"{source.name} is damaged ({error}): give another file") from error


def _read_folder(folder: Path) -> tuple[Frames, float, str]:
    files = sorted(folder.glob("frame-*.png"))
    if not files:
        raise OptionError(f"{folder} holds no frame-0001.png: give a clip, or a folder of frames")
    images = []
    for file in files:
        with file.open("rb") as handle:
            images.append(animation(handle)[0][0])
        _check_size(images[0].shape[1], images[0].shape[0], len(images))
    if len({image.shape for image in images}) != 1:
        raise OptionError(f"{folder} holds frames of different sizes: give frames of one clip")
    return np.stack(images), _png_fps(files[0]), _comment(files[0])


def _comment(source: Path) -> str:
    import av

    if source.is_dir():
        files = sorted(source.glob("frame-*.png"))
        return _comment(files[0]) if files else ""
    kind = _kind(source)
    try:
        with source.open("rb", buffering=0) as file:
            if kind == "picture":
                return animation(file)[2]
            with av.open(_Nameless(file), "r", format=kind, options=_local()) as clip:
                return _container_comment(clip.metadata)
    except (av.FFmpegError, ValueError) as error:
        raise OptionError(f"{source.name} is damaged ({error}): give another file") from error


class _Nameless:
    """A readable handle without a name, for FFmpeg would choose a demuxer by it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _local() -> dict[str, str]:
    return {"protocol_whitelist": "file"}


def _container_comment(tags: dict[str, str]) -> str:
    return next((value for key, value in tags.items() if key.lower() == "comment"), "")[
        : LARGEST_RECIPE + EXTRA
    ]


def _picture_comment(image: object) -> str:
    from PIL import Image as Pillow

    from kinescribe.media.pictures import DESCRIPTION

    assert isinstance(image, Pillow.Image)
    note = image.info.get("comment") or image.getexif().get(DESCRIPTION) or ""
    text = note.decode("utf-8", "replace") if isinstance(note, bytes) else str(note)
    return text[: LARGEST_RECIPE + EXTRA]


def _png_fps(file: Path) -> float:
    from PIL import Image as Pillow

    with Pillow.open(file, formats=("PNG",)) as image:
        return _fps(image.info.get("fps"))


def _recipe_fps(comment: str) -> float | None:
    try:
        value = json.loads(comment)["request"]["fps"]
    except (ValueError, KeyError, TypeError):
        return None
    return _fps(value)


def _fps(value: object) -> float:
    try:
        fps = float(str(value))
    except ValueError:
        return PNG_FPS
    return fps if 0 < fps <= 1000 else PNG_FPS


def _expand(images: list[Image], times: list[int], fps: float | None) -> tuple[Frames, float]:
    """Frames at one rate: writers merge equal neighbours into one long frame; undo that."""
    if len(images) == 1 and not times[0]:
        return np.stack(images), fps or PNG_FPS
    lengths = [time or 100 for time in times]
    rate = fps or 1000 / min(lengths)
    ends = np.cumsum(lengths)
    moments = (np.arange(max(1, round(float(ends[-1]) * rate / 1000))) + 0.5) * 1000 / rate
    _check_size(images[0].shape[1], images[0].shape[0], len(moments))
    which = np.searchsorted(ends, moments).clip(max=len(images) - 1)
    return np.stack([images[i] for i in which]), rate


def _check_size(width: int, height: int, count: int) -> None:
    if width * height > LARGEST_FRAME:
        raise OptionError(
            f"frames of {width}x{height}: the limit is {LARGEST_FRAME / 1e6:.0f} million pixels"
        )
    if width * height * 3 * count > LARGEST_CLIP:
        raise OptionError(
            f"{count} frames of {width}x{height}: the limit is {LARGEST_CLIP >> 30} GiB; cut the clip"
        )
