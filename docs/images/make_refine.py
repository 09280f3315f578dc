"""Make docs/images/refine.jpg: a clip of Papercut, and the same clip made anew from 85 % noise with another prompt.

Run as `python docs/images/make_refine.py`; eight of sixteen frames across.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import kinescribe

GAP, EVERY = 4, 2


def main() -> None:
    """Make both clips and lay their frames side by side."""
    clip = kinescribe.load("papercut", device="cpu")("a red balloon rising over the sea at sunset", seed=7)
    anew = kinescribe.load("papercut", device="cpu", task="video-to-video")
    other = anew(clip, "a blue balloon rising over the sea at night", strength=0.85, seed=1)
    rows = [
        np.concatenate(
            [np.pad(f, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for f in frames[::EVERY]], 1
        )
        for frames in (clip.frames, other.frames)
    ]
    Image.fromarray(np.concatenate(rows)).save(
        Path(__file__).with_name("refine.jpg"), quality=88, optimize=True
    )


if __name__ == "__main__":
    main()
