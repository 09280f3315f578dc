"""Convolution along time."""

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


class TemporalConv(nn.Conv2d):
    """:func:`temporal_conv_reference` as a 2-D convolution of ``b c f (h w)`` along ``f``.

    In channels-last memory that view is free, and libraries have better kernels for 2-D than for 3-D.
    """

    bias: nn.Parameter

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1), padding=(1, 0))


def channels_last(x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
    """The same clip with its channels innermost in memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)


def pictures(x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "bf c h w"]:
    """One picture a row; a view when ``x`` lies channels-last."""
    return rearrange(x, "b c f h w -> (b f) c h w")


def clips(x: Float[Tensor, "bf c h w"], b: int) -> Float[Tensor, "b c f h w"]:
    """The inverse of :func:`pictures`; a view when ``x`` lies channels-last."""
    return rearrange(x, "(b f) c h w -> b c f h w", b=b)
