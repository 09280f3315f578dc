"""Any usual form of a clip into `uint8 (f h w 3)`, without scaling anything twice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinescribe.errors import OptionError

Frames = UInt8[np.ndarray, "f h w 3"]


def as_frames(clip: Any) -> Frames:
    """`uint8 (f h w 3)` from uint8 or float (0 to 1) arrays, torch tensors, or a sequence of PIL images.

    Layout is channels last; one leading batch axis of size 1 is dropped. uint8 passes through unchanged.
    Raises OptionError for other shapes, for a larger batch, and for floats outside 0 to 1 or not finite.
    """
    if isinstance(clip, Sequence):
        if not clip:
            raise OptionError("the clip has no frames: give at least one")
        images = [as_array(frame) for frame in clip]
        if len({image.shape for image in images}) != 1:
            raise OptionError("the frames have different sizes: give frames of one clip")
        array = np.stack(images)
    else:
        array = as_array(clip)
    if array.ndim == 5 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise OptionError(f"a clip of shape {array.shape}: expected one clip as (frames, height, width, 3)")
    return np.ascontiguousarray(array if array.dtype == np.uint8 else scaled(array))


def as_array(frame: Any) -> np.ndarray:
    """One frame or clip as an array: torch tensors come from their device, PIL images as RGB."""
    if hasattr(frame, "detach"):
        frame = frame.detach().cpu()
        frame = frame.float().numpy() if frame.is_floating_point() else frame.numpy()
    if hasattr(frame, "convert"):
        frame = frame.convert("RGB")
    return np.asarray(frame)


def scaled(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """uint8 from floats between 0 and 1, rounded; OptionError for other types, other ranges and NaN."""
    if not np.issubdtype(array.dtype, np.floating):
        raise OptionError(f"frames of type {array.dtype}: expected uint8, or floats from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise OptionError(
            f"float frames from {low:g} to {high:g}: expected 0 to 1; scale them, or give uint8"
        )
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)
