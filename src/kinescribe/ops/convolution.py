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


class ShiftedConv(nn.Conv2d):
    """A 3 x 3 convolution without its bias, which its caller adds to the shift of the norm behind it."""

    bias: nn.Parameter

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h w"]:
        """Same height and width."""
        return F.conv2d(x, self.weight, padding=1)


class PointwiseConv(nn.Conv2d):
    """A convolution of one pixel, which in channels-last memory is a linear layer of every pixel."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h w"]:
        """As the library's; on a GPU by its matrix product, which adds the bias on the way."""
        if not kernels_serve(x, self.weight, self.bias):
            return super().forward(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def lay_channels_last(network: nn.Module) -> None:
    """Put the channels of all kernels innermost in memory, values and names unchanged.

    The library's GPU kernels want them as clips lie, and would copy every kernel at every call.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def add(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"], waiting: Waiting, ahead: Waiting = None
) -> Float[Tensor, "n c h w"]:
    """``x + y``, the bias of :func:`convolve` and what else comes ``ahead``; channels-last where a bias waited."""
    if waiting is None:
        return x + y if ahead is None else x + y + ahead[:, :, None, None]
    if kernels_serve(x, y, waiting, ahead):
        from kinescribe.ops.convolution_triton import add_biased_op

        return add_biased_op(x, y, waiting, ahead)
    total = x + (y + waiting[:, :, None, None])
    return total if ahead is None else total + ahead[:, :, None, None]
