"""Pictures as the two image-conditioned models were trained to see them: the middle, cropped to one shape.

The crop is CenterCropWide of ModelScope's Image-to-Video and of VGen: the shorter side is brought to the target
by PIL's BOX filter, and the middle is kept.
"""

import numpy as np
from jaxtyping import Float, UInt8

from kinescribe.errors import OptionError
from kinescribe.media.source import LARGEST_FRAME

VISION_SIDE = 224  # pixels that CLIP's image tower sees
# of the pictures that CLIP was trained on, in RGB order
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)

Image = UInt8[np.ndarray, "h w 3"]


def centre_crop(
    image: Image, width: int, height: int, *, strict: bool = False
) -> UInt8[np.ndarray, "height width 3"]:
    """The middle of a picture at `width` x `height`.

    The references divide with `//` on floats, which leaves the shorter side one pixel short for two sizes of five;
    PIL then fills a row at the top or a column at the left with black. `strict` keeps that, as pixels of published
    results need; otherwise the side is as long as asked for. All other sizes come out the same in both ways.
    """
    from PIL import Image as Pillow

    h, w, _ = image.shape
    scale = min(w / width, h / height)
    wide, high = round(w // scale), round(h // scale)
    if not strict:
        wide, high = max(width, wide), max(height, high)
    if wide * high > 4 * LARGEST_FRAME:
        raise OptionError(f"a picture of {w}x{h} is too long to be cropped to {width}x{height}: cut it first")
    resized = Pillow.fromarray(image).resize((wide, high), Pillow.Resampling.BOX)
    left, top = (wide - width) // 2, (high - height) // 2
    return np.array(resized.crop((left, top, left + width, top + height)))


def clip_pixels(
    image: Image, *, crop: tuple[int, int], side: int = VISION_SIDE, strict: bool = False
) -> Float[np.ndarray, "3 side side"]:
    """What CLIP's image tower takes: cropped to `crop` (width, height), shrunk to `side`, normalised as in training.

    ModelScope's Image-to-Video crops to (448, 448), I2VGen-XL to (1280, 1280), or to the clip's width twice.
    """
    from PIL import Image as Pillow

    middle = Pillow.fromarray(centre_crop(image, *crop, strict=strict))
    small = np.asarray(middle.resize((side, side), Pillow.Resampling.BILINEAR))
    return _planes((small.astype(np.float32) / np.float32(255) - MEAN) / DEVIATION)


def autoencoder_pixels(
    image: Image, width: int, height: int, *, strict: bool = False
) -> Float[np.ndarray, "3 height width"]:
    """What the autoencoder takes of I2VGen-XL's picture: cropped to the clip's size, from -1 to 1."""
    middle = centre_crop(image, width, height, strict=strict).astype(np.float32) / np.float32(255)
    return _planes((middle - np.float32(0.5)) / np.float32(0.5))


def _planes(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "3 h w"]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))
