"""Nearest-neighbour enlargement and a 3 x 3 convolution behind it, without the enlarged picture."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.kept import Keeps
from kinescribe.ops.select import kernels_serve, phases_pay, products_serve
from kinescribe.ops.tiles import enlarging_tile


def upsample_conv_reference(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"] | None
) -> Float[Tensor, "n o h2 w2"]:
    """Every pixel twice in both directions, then the convolution with one zero pixel around."""
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


class UpsampleConv(Keeps, nn.Conv2d):
    """A 3 x 3 convolution that can enlarge what it is given first, see :meth:`enlarged`.

    It keeps the phases of its weight, 16/9 of its size.
    """

    def __init__(self, channels: int) -> None:
        nn.Conv2d.__init__(self, channels, channels, 3, padding=1)

    def sources(self) -> tuple[Tensor]:
        """Its weight."""
        return (self.weight,)

    def made(self) -> tuple[Tensor]:
        """Its phases."""
        return (phases(self.weight),)

    def enlarged(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        """:func:`upsample_conv_reference`, by phases where ``select`` has it so; the result then lies channels-last."""
        kept = self.kept()
        # of small pictures making the phases takes longer than they spare
        spared = kept is not None and _product_serves(x, self.out_channels, self.weight, self.bias)
        if not (phases_pay(x, self.weight) or spared):
            return upsample_conv_reference(x, self.weight, self.bias)
        (kernels,) = kept or self.made()
        return upsample_conv_by_phase(x, kernels, self.bias)


def upsample_conv_by_phase(
    x: Float[Tensor, "n c h w"], kernels: Float[Tensor, "o4 c 2 2"], bias: Float[Tensor, " o"] | None
) -> Float[Tensor, "n o h2 w2"]:
    """:func:`upsample_conv_reference` with 4/9 of its products; the result lies channels-last.

    ``kernels`` are the :func:`phases` of its weight. Of the three rows that an output row reads, two are the same input
    row, whose weights add up: rows of even number read two input rows with one pair of kernels, those of odd number
    with another, and columns alike. The four kinds of output pixel are four sets of channels of one 2 x 2 convolution,
    put in their places afterwards, or by the product of taps that makes them where ``select`` has that.
    """
    n, _, h, w = x.shape
    o = len(kernels) // 4
    if _product_serves(x, o, kernels, bias):
        from kinescribe.ops.taps_triton import enlarge_op

        return enlarge_op(x, kernels.permute(0, 2, 3, 1), bias)
    if kernels_serve(x, kernels, bias):
        from kinescribe.ops.upsample_triton import place_op

        return place_op(F.conv2d(x, kernels, padding=1), bias)
    y = F.conv2d(x, kernels, None if bias is None else bias.repeat(4), padding=1)
    y = y.permute(0, 2, 3, 1).contiguous()
    # Output pixel (2 i + row, 2 j + column) is the set (row, column) of channels of pixel (i + row, j + column).
    whole, tall, wide, _ = y.stride()
    placed = y.as_strided((n, h, 2, w, 2, o), (whole, tall, tall + 2 * o, wide, wide + o, 1))
    return placed.reshape(n, 2 * h, 2 * w, o).permute(0, 3, 1, 2)


def _product_serves(x: Tensor, o: int, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a product of taps of ours enlarges: where the kernels may, and have a tile for ``o`` channels."""
    n, c, h, w = x.shape
    return products_serve(x, weight, bias) and enlarging_tile((n, h, w), (4 * o, 2, 2, c), 2) is not None


def phases(weight: Float[Tensor, "o c 3 3"]) -> Float[Tensor, "o4 c 2 2"]:
    """The four kernels, one behind the other: even and odd rows, in each even and odd columns."""
    wide = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    kernels = [kernel for rows in _pairs(wide, 2) for kernel in _pairs(rows, 3)]
    return torch.cat(kernels).to(weight.dtype).contiguous(memory_format=torch.channels_last)


def _pairs(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """What meets the first and the second of two input rows: in an even output row, in an odd one."""
    first, middle, last = weight.unbind(axis)
    return torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)
