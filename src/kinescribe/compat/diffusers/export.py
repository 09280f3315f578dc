"""``export_to_video`` and ``export_to_gif`` under their old names, with our writer behind them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinescribe.media.frames import Frames, as_frames
from kinescribe.media.write import write_video


def export_to_video(
    video_frames: Any,
    output_video_path: str | Path | None = None,
    fps: int | float = 10,
    quality: float = 5.0,  # noqa: ARG001 - the writer has one quality, near to lossless
    bitrate: int | None = None,  # noqa: ARG001
    macro_block_size: int | None = 16,  # noqa: ARG001 - no size is ever changed
) -> str:
    """Write frames as H.264 and give the path back, that of a temporary .mp4 if none is given.

    Takes ``.frames`` and ``.frames[0]`` of a call that made one clip: floats from 0 to 1 (cut off to 8 bits as
    diffusers does), uint8 arrays, or PIL images. The size is kept as it is. An existing file is replaced.
    """
    return _write(video_frames, output_video_path, fps, ".mp4")


def export_to_gif(image: Any, output_gif_path: str | Path | None = None, fps: int | float = 10) -> str:
    """Write frames as an animated GIF; otherwise as ``export_to_video``."""
    return _write(image, output_gif_path, fps, ".gif")


def _write(frames: Any, path: str | Path | None, fps: int | float, suffix: str) -> str:
    where = Path(tempfile.mkdtemp(prefix="kinescribe-")) / f"clip{suffix}" if path is None else Path(path)
    written = write_video(_cut_off(frames), fps, where, overwrite=True)
    return str(written if path is None else path)


def _cut_off(frames: Any) -> Frames:
    """Frames as uint8, floats times 255 without rounding; a batch of one clip is that clip."""
    if isinstance(frames, Sequence) and len(frames) == 1 and isinstance(frames[0], Sequence):
        return as_frames(frames[0])
    array = np.asarray(frames) if isinstance(frames, np.ndarray) else None
    if isinstance(frames, Sequence) and frames and isinstance(frames[0], np.ndarray):
        array = np.stack(frames)
    if array is not None and np.issubdtype(array.dtype, np.floating):
        as_frames(array)  # for its complaints: range, shape, numbers that are none
        return as_frames((array.clip(0, 1) * 255).astype(np.uint8))
    return as_frames(frames if array is None else array)
