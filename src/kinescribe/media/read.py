"""Read a clip and its recipe. A file is opened by its bytes, never by what its name claims."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8

from kinescribe.errors import OptionError
from kinescribe.media.containers import EXTRA, Decoded, read_container, read_tags
from kinescribe.media.frames import Frames, as_frames
from kinescribe.media.images import DAMAGE, rgb
from kinescribe.media.recipe import LARGEST_RECIPE, parse_recipe
from kinescribe.media.source import HEAD, Container, check_size, existing, opened, refusal, sniff
from kinescribe.media.timing import FASTEST, USUAL_FPS
from kinescribe.media.video import Video

KINDS = "mp4, mov, webm, mkv, avi, gif, webp and png are read"

Image = UInt8[np.ndarray, "h w 3"]


def as_video(source: Any, fps: int | float | None = None) -> Video:
    """A `Video` from a `Video`, the path of a clip, an array `(f h w 3)`, or a sequence of arrays or PIL images.

    `fps` is the rate of an array or sequence (8 if not given); for the others it replaces their own.
    Raises OptionError where `read_video` or `as_frames` does, and for an fps not above 0 and up to 1000.
    """
    if fps is not None and not 0 < fps <= FASTEST:
        raise OptionError(f"fps={fps}: expected a number above 0, up to {FASTEST:g}")
    if isinstance(source, str | Path):
        source = read_video(source)
    if isinstance(source, Video):
        return source if fps is None else replace(source, fps=fps)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        source = [rgb(item, "a frame") if hasattr(item, "getexif") else item for item in source]
    elif not hasattr(source, "shape"):
        kind = type(source).__name__
        raise OptionError(f"a clip of type {kind}: give a path, a Video, or frames as (f, h, w, 3)")
    return Video(frames=as_frames(source), fps=USUAL_FPS if fps is None else fps)


def read_video(path: str | Path) -> Video:
    """Decode a whole clip: mp4, mov, webm, mkv, avi, GIF, WebP, PNG, or a folder of PNG frames.

    Frames come upright, with square pixels, on white where they are clear, and at one even rate; sound is
    dropped. What that changed stands in `Video.notes`. A recipe that is not ours, or damaged, is left out.
    Raises OptionError for anything that is missing, empty, damaged, too large, or no video.
    """
    file = existing(path, "a clip")
    clip = _read(file)
    try:
        recipe = parse_recipe(clip.comment) if clip.comment else {}
    except OptionError:
        recipe = {}
    return Video(frames=clip.frames, fps=clip.fps, recipe=recipe, notes=clip.notes, name=file.name)


def read_recipe(path: str | Path) -> dict[str, object]:
    """The recipe inside a clip, checked field by field as if a stranger had written it.

    Raises OptionError if the clip has none, or one that breaks a rule.
    """
    source = existing(path, "a clip")
    comment = _comment(source)
    if not comment:
        raise OptionError(f"{source.name} holds no recipe: it was not made here, or with --no-metadata")
    return parse_recipe(comment)


def animation(file: IO[bytes]) -> tuple[list[Image], list[int], str]:
    """Frames, milliseconds of each, and the comment of an animated GIF or WebP, or of one PNG."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(file, formats=("GIF", "WEBP", "PNG")) as image:
            count = getattr(image, "n_frames", 1)
            check_size(image.width, image.height, count)
            comment = _picture_comment(image)
            images, times = [], []
            for index in range(count):
                image.seek(index)
                images.append(rgb(image, "a frame"))
                times.append(int(image.info.get("duration") or 0))
    except OptionError:
        raise
    except (*DAMAGE, Pillow.DecompressionBombError) as error:
        raise OptionError(f"damaged picture ({error}): give another file") from error
    if len({image.shape for image in images}) != 1:
        raise OptionError("damaged picture (its size changes on the way): give another file")
    return images, times, comment


def _kind(source: Path) -> Container:
    with opened(source) as file:
        head = file.read(HEAD)
    kind = sniff(head)
    if kind is None:
        raise OptionError(f"{source.name} {refusal(head, 'video')} ({KINDS})")
    return kind


def _read(source: Path) -> Decoded:
    if source.is_dir():
        return _read_folder(source)
    kind = _kind(source)
    if kind == "picture":
        with opened(source) as file:
            images, times, comment = animation(file)
        return Decoded(*_expand(images, times, _recipe_fps(comment)), comment, ())
    return read_container(source, kind)


def _read_folder(folder: Path) -> Decoded:
    files = sorted(folder.glob("frame-*.png"))
    if not files:
        raise OptionError(f"{folder} holds no frame-0001.png: give a clip, or a folder of frames")
    images = []
    for file in files:
        with opened(file) as handle:
            images.append(animation(handle)[0][0])
        check_size(images[0].shape[1], images[0].shape[0], len(images))
    if len({image.shape for image in images}) != 1:
        raise OptionError(f"{folder} holds frames of different sizes: give frames of one clip")
    return Decoded(np.stack(images), _png_fps(files[0]), _comment(files[0]), ())


def _comment(source: Path) -> str:
    if source.is_dir():
        files = sorted(source.glob("frame-*.png"))
        return _comment(files[0]) if files else ""
    kind = _kind(source)
    if kind != "picture":
        return read_tags(source, kind)
    with opened(source) as file:
        return animation(file)[2]


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
        return USUAL_FPS
    return fps if 0 < fps <= FASTEST else USUAL_FPS


def _expand(images: list[Image], times: list[int], fps: float | None) -> tuple[Frames, float]:
    """Frames at one rate: writers merge equal neighbours into one long frame; undo that."""
    if len(images) == 1 and not times[0]:
        return np.stack(images), fps or USUAL_FPS
    lengths = [time or 100 for time in times]
    rate = fps or 1000 / min(lengths)
    ends = np.cumsum(lengths)
    moments = (np.arange(max(1, round(float(ends[-1]) * rate / 1000))) + 0.5) * 1000 / rate
    check_size(images[0].shape[1], images[0].shape[0], len(moments))
    which = np.searchsorted(ends, moments).clip(max=len(images) - 1)
    return np.stack([images[i] for i in which]), rate
