"""Frames to another size as the refining model's reference does it, and as it should have been done."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor


def squashed(
    frames: UInt8[Tensor, "f h w 3"], width: int, height: int, *, strict: bool = False
) -> Float[Tensor, "f 3 h2 w2"]:
    """All of every frame at `width` x `height`, its shape not kept, from -1 to 1 in float32.

    Bilinear, centres of pixels not moved to the corners. The reference samples four pixels also where it shrinks, which
    flickers; `strict` keeps that, otherwise every pixel covered counts. Enlarging is the same in both ways.
    """
    pixels = rearrange(frames, "f h w c -> f c h w").float() / 255
    return F.interpolate(
        (pixels - 0.5) / 0.5, size=(height, width), mode="bilinear", align_corners=False, antialias=not strict
    )
