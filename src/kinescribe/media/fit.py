"""Frames of any shape into a frame of another: cropped, padded, or stretched, and what that cost in words."""

from typing import Literal

import numpy as np
from jaxtyping import UInt8

from kinescribe.media.frames import Frames

Fit = Literal["crop", "pad", "stretch"]

LEAST = 0.005  # of a side: less is not worth a word


def fit_frames(frames: Frames, width: int, height: int, how: Fit) -> UInt8[np.ndarray, "f height width 3"]:
    """The frames at `width` x `height`, resized once with Lanczos's filter over the area that a pixel covers.

    "crop" keeps the middle, "pad" keeps everything between black bars, "stretch" keeps everything and bends the
    shape. One frame after the other, in 8 bits: no float copy of a clip is made. Frames of that size come back as
    they are.
    """
    from PIL import Image as Pillow

    _, h, w, _ = frames.shape
    if (w, h) == (width, height):
        return frames
    box = window(w, h, width, height) if how == "crop" else (0.0, 0.0, float(w), float(h))
    wide, high = _inside(w, h, width, height) if how == "pad" else (width, height)
    left, top = (width - wide) // 2, (height - high) // 2
    fitted = np.zeros((len(frames), height, width, 3), np.uint8)
    for source, target in zip(frames, fitted, strict=True):
        resized = Pillow.fromarray(source).resize((wide, high), Pillow.Resampling.LANCZOS, box=box)
        target[top : top + high, left : left + wide] = np.asarray(resized)
    return fitted


def fit_note(size: tuple[int, int], width: int, height: int, how: Fit) -> str:
    """What fit_frames does to frames of `size` (width, height), in one line; empty if nothing is lost or added."""
    w, h = size
    if how == "crop":
        left, top, right, bottom = window(w, h, width, height)
        return _sides("cropped", 1 - (right - left) / w, 1 - (bottom - top) / h)
    if how == "pad":
        wide, high = _inside(w, h, width, height)
        return _sides("black bars over", 1 - wide / width, 1 - high / height)
    bent = (width / w) / (height / h)
    if abs(np.log(bent)) < LEAST:
        return ""
    return f"stretched {max(bent, 1 / bent):.2f} times in {'width' if bent > 1 else 'height'}"


def window(w: int, h: int, width: int, height: int) -> tuple[float, float, float, float]:
    """The largest box in the middle of `w` x `h` with the target's shape: left, top, right, bottom in pixels."""
    scale = min(w / width, h / height)
    left, top = (w - width * scale) / 2, (h - height * scale) / 2
    return max(left, 0.0), max(top, 0.0), min(w - left, float(w)), min(h - top, float(h))


def _inside(w: int, h: int, width: int, height: int) -> tuple[int, int]:
    """The largest width and height with the shape of the source that the target holds."""
    scale = max(w / width, h / height)
    return min(max(round(w / scale), 1), width), min(max(round(h / scale), 1), height)


def _sides(what: str, across: float, down: float) -> str:
    share, (one, other) = max((across, ("left", "right")), (down, ("top", "bottom")))
    if share < LEAST:
        return ""
    return f"{what} {share / 2:.1%} at the {one} and {share / 2:.1%} at the {other}"
