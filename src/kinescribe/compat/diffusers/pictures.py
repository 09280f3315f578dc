"""Pictures and clips as scripts for diffusers hand them over, and ``load_image`` and ``load_video`` for them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image as Pillow
from torch import Tensor

from kinescribe.errors import OptionError
from kinescribe.media.frames import as_frames
from kinescribe.media.images import read_image
from kinescribe.media.read import as_video, read_video

Image = UInt8[np.ndarray, "_ _ 3"]  # of a list, each has its own size
Images = list[Pillow.Image]


def load_image(
    image: str | Path | Pillow.Image, convert_method: Callable[[Pillow.Image], Pillow.Image] | None = None
) -> Pillow.Image:
    """A picture from a file on this computer, upright and in RGB; an address is refused, nothing is downloaded."""
    loaded = Pillow.fromarray(read_image(image))
    return loaded if convert_method is None else convert_method(loaded)


def load_video(
    video: str | Path, convert_method: Callable[[Images], Images] | None = None, return_fps: bool = False
) -> Images | tuple[Images, float]:
    """The frames of a clip on this computer; with ``return_fps`` its frame rate too."""
    clip = read_video(video)
    images = [Pillow.fromarray(frame) for frame in clip.frames]
    loaded = images if convert_method is None else convert_method(images)
    return (loaded, float(clip.fps)) if return_fps else loaded


def pictures_of(image: Any) -> list[Image]:
    """One picture or a list of them: paths, PIL images, arrays ``(h, w, 3)``, or tensors ``(3, h, w)`` from 0 to 1.

    A tensor may hold a batch ``(n, 3, h, w)``. Raises ``OptionError`` for what is none.
    """
    if isinstance(image, Sequence) and not isinstance(image, str | bytes):
        return [picture for item in image for picture in pictures_of(item)]
    if not isinstance(image, Tensor):
        return [read_image(image)]
    if image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise OptionError(
            f"image: a tensor of shape {tuple(image.shape)}: use (3, height, width), or (n, 3, height, width)"
        )
    levels = (image.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    rows = levels[None] if levels.ndim == 3 else levels
    return [read_image(picture.numpy()) for picture in rearrange(rows, "n c h w -> n h w c")]


def clip_of(video: Any) -> Float[Tensor, "f 3 h w"]:
    """Frames from -1 to 1, floats as exact as they came.

    A list of PIL images or arrays, an array ``(f, h, w, 3)`` or a tensor ``(f, 3, h, w)``, floats from 0 to 1, or
    one such clip in a list or batch; also a path or a ``Video``. Raises ``OptionError`` for anything else.
    """
    if isinstance(video, Sequence) and not isinstance(video, str | bytes):
        video = _only(video) if _is_clip(video[0] if video else None) else _stacked(video)
    if getattr(video, "ndim", 0) == 5:
        video = _only(video)
    if isinstance(video, Tensor):
        video = video.float() if video.dtype == torch.bfloat16 else video  # which numpy does not have
        video = video.detach().cpu().movedim(1, -1).numpy() if video.ndim == 4 else video
    if isinstance(video, np.ndarray) and np.issubdtype(video.dtype, np.floating):
        as_frames(video)  # for its complaints: range, shape, numbers that are none
        frames = torch.from_numpy(np.ascontiguousarray(video, dtype=np.float32))
        return rearrange(frames, "f h w c -> f c h w") * 2 - 1
    frames = torch.from_numpy(as_video(video).frames)
    return rearrange(frames, "f h w c -> f c h w").float() / 255 * 2 - 1


def _is_clip(item: Any) -> bool:
    return isinstance(item, Sequence) and not isinstance(item, str | bytes) or getattr(item, "ndim", 0) == 4


def _only(clips: Any) -> Any:
    if len(clips) != 1:
        raise OptionError(f"video holds {len(clips)} clips: give one a call")
    only = clips[0]
    return _stacked(only) if isinstance(only, Sequence) else only


def _stacked(frames: Sequence[Any]) -> Any:
    """Frames that are arrays or tensors as one; PIL images stay a list."""
    if frames and all(isinstance(frame, Tensor) for frame in frames):
        return torch.stack(list(frames))
    if frames and all(isinstance(frame, np.ndarray) for frame in frames):
        if len({frame.shape for frame in frames}) > 1:
            raise OptionError("video: frames of different sizes: resize them first")
        return np.stack(list(frames))
    return list(frames)
