"""Convolution along time, on a GPU as one product of windows of three frames.

Its kernel is three frames tall and one pixel wide, which libraries have no fast convolution for. The norm before it can
write its result so that three frames of a pixel lie behind each other in memory: then it is one product.
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def temporal_conv_reference(
    x: Float[Tensor, "b c f h w"], weight: Float[Tensor, "o c 3 1"], bias: Float[Tensor, " o"]
) -> Float[Tensor, "b o f h w"]:
    """A 3-D convolution with kernel (3, 1, 1) and one zero frame at either end."""
    return F.conv3d(x, weight.unsqueeze(-1), bias, padding=(1, 0, 0))


Laid = Literal[1, 2]
"""How windows lie in memory: by pixel, which takes little more memory; or side by side, which takes three times as much
and suits products of few pixels better."""

PIXELS_BY_CLIP = 256
"""From so many pixels a frame the windows of a clip are laid by pixel."""


def laid_for(pixels: int) -> Laid:
    """The layout of windows that is the faster one."""
    return 1 if pixels >= PIXELS_BY_CLIP else 2


def windows(x: Float[Tensor, "b c f p"], laid: Laid) -> Float[Tensor, "b ..."]:
    """What a group norm's kernel writes of its result ``x``: ``b p f+2 c``, or side by side ``b f p 3 c``."""
    padded = F.pad(rearrange(x, "b c f p -> b p f c"), (0, 0, 1, 1))
    return padded if laid == 1 else rearrange(padded.unfold(2, 3, 1), "b p f c t -> b f p t c").contiguous()


class TemporalConv(nn.Conv2d):
    """:func:`temporal_conv_reference` as a 2-D convolution of ``b c f (h w)`` along ``f``.

    In channels-last memory that view is free, and libraries have better kernels for 2-D than for 3-D.
    """

    bias: nn.Parameter

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1), padding=(1, 0))

    def over(self, windows: Float[Tensor, "b ..."]) -> Float[Tensor, "b o f p"]:
        """The convolution, without its bias, of a clip of which there are :func:`windows`; channels-last."""
        kernel = self.weight.permute(0, 2, 3, 1).flatten(1)
        if windows.ndim == 5:
            return F.linear(windows.flatten(3), kernel).permute(0, 3, 1, 2)
        b, p, padded, c = windows.shape
        f = padded - 2
        out = windows.new_empty(b, f, p, len(kernel))
        every_frame = kernel.T.expand(f, -1, -1)
        for clip, made in zip(windows, out, strict=True):
            # the windows of a frame overlap those of the next in memory
            of_frames = clip.as_strided((f, p, 3 * c), (c, padded * c, 1), clip.storage_offset())
            torch.bmm(of_frames, every_frame, out=made)
        return out.permute(0, 3, 1, 2)


def channels_last(x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
    """The same clip with its channels innermost in memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)


def pictures(x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "bf c h w"]:
    """One picture a row; a view when ``x`` lies channels-last."""
    return rearrange(x, "b c f h w -> (b f) c h w")


def clips(x: Float[Tensor, "bf c h w"], b: int) -> Float[Tensor, "b c f h w"]:
    """The inverse of :func:`pictures`; a view when ``x`` lies channels-last."""
    return rearrange(x, "(b f) c h w -> b c f h w", b=b)
