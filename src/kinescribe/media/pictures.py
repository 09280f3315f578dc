"""Clips as pictures through Pillow: animated GIF and WebP, and folders of PNG frames."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinescribe.errors import WriteError
from kinescribe.media.frames import Frames

if TYPE_CHECKING:
    from PIL import Image

DESCRIPTION = 0x010E  # EXIF ImageDescription
PALETTE_PIXELS = 1 << 20


def write_animation(clip: Frames, fps: float, path: Path, kind: str, comment: str | None) -> None:
    """Write an animated GIF (one palette of 256 colours, so that it does not flicker) or WebP, looping for ever."""
    from PIL import Image

    unit = 10 if kind == "gif" else 1  # GIF counts time in hundredths of a second
    times = frame_times(len(clip), fps, unit)
    if kind == "gif":
        images = _one_palette(clip)
        images[0].save(
            path, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, disposal=1,
            comment=(comment or "").encode("ascii"),
        )  # fmt: skip
    else:
        images = [Image.fromarray(frame) for frame in clip]
        exif = Image.Exif()
        if comment is not None:
            exif[DESCRIPTION] = comment
        images[0].save(
            path, "WEBP", save_all=True, append_images=images[1:], duration=times, loop=0, quality=90, method=4,
            exif=exif,
        )  # fmt: skip
    _verify(clip, sum(times), path)


def frame_times(count: int, fps: float, unit: int) -> list[int]:
    """Milliseconds of each frame in whole `unit`s, rounded so that the sum never drifts from `count / fps`."""
    ends = [max(round(1000 * (i + 1) / fps / unit), i + 1) * unit for i in range(count)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def write_png_frames(clip: Frames, fps: float, folder: Path, comment: str | None) -> None:
    """Write `frame-0001.png` ... into `folder`; each file tells the fps, and the recipe if there is one."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    for index, frame in enumerate(clip, start=1):
        notes = PngInfo()
        notes.add_text("fps", json.dumps(fps))
        if comment is not None:
            notes.add_text("comment", comment)
        Image.fromarray(frame).save(folder / f"frame-{index:04}.png", "PNG", pnginfo=notes)


def _one_palette(clip: Frames) -> "Sequence[Image.Image]":
    from PIL import Image

    step = max(1, round((clip[..., 0].size / PALETTE_PIXELS) ** 0.5))
    sample = clip[:, ::step, ::step].reshape(-1, clip.shape[2] // step + (clip.shape[2] % step > 0), 3)
    palette = Image.fromarray(np.ascontiguousarray(sample)).quantize(256, Image.Quantize.MEDIANCUT)
    return [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in clip
    ]


def _verify(clip: Frames, milliseconds: int, path: Path) -> None:
    from kinescribe.media.read import animation

    with path.open("rb") as file:
        images, times, _ = animation(file)
    still = len(images) == 1 and bool(
        (clip == clip[0]).all()
    )  # a clip without change may become a still picture
    timed = sum(times) == milliseconds or still
    if images[0].shape != clip.shape[1:] or len(images) > len(clip) or not timed:
        raise WriteError(f"the animation reads back as {len(images)} frames of {images[0].shape}: try .mp4")
