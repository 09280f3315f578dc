"""Convolutions as a GPU likes them: kernels laid out as clips are, biases that wait for the next pass over memory."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.select import kernels_serve

Waiting = Float[Tensor, "1 o"] | None
"""A bias that is still to be added to what it comes with, or None."""


def convolve(x: Float[Tensor, "n c h w"], conv: nn.Conv2d) -> tuple[Float[Tensor, "n o h2 w2"], Waiting]:
    """``conv(x)``, from which on a GPU the bias is left out and comes beside it.

    There the library adds it in a pass of its own, while ``GroupNorm`` (as ``shift``) and :func:`add` do it on the way.
    """
    if conv.bias is None or not kernels_serve(x, conv.weight, conv.bias):
        return conv(x), None
    out = F.conv2d(x, conv.weight, None, conv.stride, conv.padding)
    return out, conv.bias[None]


def lay_channels_last(network: nn.Module) -> None:
    """Put the channels of all kernels innermost in memory, values and names unchanged.

    The library's GPU kernels want them as clips lie, and would copy every kernel at every call.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def add(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"], waiting: Waiting
) -> Float[Tensor, "n c h w"]:
    """``x + y`` and the bias of :func:`convolve`; the result lies channels-last where that waited."""
    if waiting is None:
        return x + y
    if kernels_serve(x, y, waiting):
        from kinescribe.ops.convolution_triton import add_biased_op

        return add_biased_op(x, y, waiting)
    return x + (y + waiting[:, :, None, None])
