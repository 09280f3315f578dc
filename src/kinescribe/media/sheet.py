"""A contact sheet: the frames of a clip on one picture, in reading order."""

from pathlib import Path

import numpy as np
from einops import rearrange

from kinescribe.errors import OptionError
from kinescribe.media.frames import Frames
from kinescribe.media.output import check_file, whole_file

MOST_FRAMES = 64
GAP = 2


def write_sheet(
    clip: Frames,
    path: str | Path,
    *,
    columns: int | None = None,
    comment: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a PNG of the frames, `columns` in a row (None: near to a square); the absolute path back.

    More than 64 frames are thinned evenly, the first and last kept.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if columns is not None and columns < 1:
        raise OptionError(f"columns={columns}: expected 1 or more")
    final = check_file(path, overwrite)
    notes = PngInfo()
    if comment is not None:
        notes.add_text("comment", comment)
    with whole_file(final, overwrite=overwrite) as temporary:
        Image.fromarray(tile(clip, columns)).save(temporary, "PNG", pnginfo=notes)
    return final


def tile(clip: Frames, columns: int | None = None) -> np.ndarray:
    """The frames side by side with a white gap: `uint8 (rows*(h+2) columns*(w+2) 3)`."""
    if len(clip) > MOST_FRAMES:
        clip = clip[np.linspace(0, len(clip) - 1, MOST_FRAMES).round().astype(int)]
    wide = min(columns or int(np.ceil(len(clip) ** 0.5)), len(clip))
    missing = -len(clip) % wide
    padded = np.pad(clip, ((0, missing), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    padded[len(clip) :] = 255
    return rearrange(padded, "(rows columns) h w c -> (rows h) (columns w) c", columns=wide)
