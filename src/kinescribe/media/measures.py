"""Two figures that tell whether a picture came to life: is the first frame the picture, and does anything move?"""

import numpy as np
from jaxtyping import Float, UInt8

from kinescribe.media.fit import window
from kinescribe.media.frames import Frames

SIDE = 32  # pixels at which both are taken: noise, texture and small shifts are gone there
# Measured on 200 clips of Papercut: those where nothing moves give at most 0.44, those where anything does at least
# 1.28; 90 of 100 pairs of different pictures are below 0.5, a picture and its copy (JPEG, a fifth darker, grain)
# above 0.95.
STILL = 0.8
UNLIKE = 0.5

Image = UInt8[np.ndarray, "h w 3"]


def similarity(picture: Image, frame: UInt8[np.ndarray, "h2 w2 3"]) -> float:
    """How much of a picture is in a frame: 1 for the same, about 0 for two that have nothing in common.

    SSIM (Wang et al. 2004) with one window over all of both, 32 x 32 pixels in RGB; the picture is cropped to the
    frame's shape before. Brightness, contrast and layout count, detail does not.
    """
    height, width, _ = frame.shape
    box = window(picture.shape[1], picture.shape[0], width, height)
    one = _small(picture, box).ravel()
    other = _small(frame, None).ravel()
    means = 2 * one.mean() * other.mean() + 0.01**2, one.mean() ** 2 + other.mean() ** 2 + 0.01**2
    together = float(((one - one.mean()) * (other - other.mean())).mean())
    spread = 2 * together + 0.03**2, one.var() + other.var() + 0.03**2
    return max(0.0, float(means[0] / means[1] * spread[0] / spread[1]))


def motion(frames: Frames) -> float:
    """How far pixels stray from their own mean over the clip, on average, in 8-bit levels (0 to 127.5).

    Taken at 32 x 32 pixels, so that grain does not count. Slow and fast movement count alike; so does a change of
    light. One frame gives 0.
    """
    small = np.stack([_small(frame, None) for frame in frames]).astype(np.float64)
    return float(np.abs(small - small.mean(0)).mean() * 255)


def _small(image: Image, box: tuple[float, float, float, float] | None) -> Float[np.ndarray, "32 32 3"]:
    from PIL import Image as Pillow

    resized = Pillow.fromarray(image).resize((SIDE, SIDE), Pillow.Resampling.BOX, box=box)
    return np.asarray(resized, np.float32) / 255
