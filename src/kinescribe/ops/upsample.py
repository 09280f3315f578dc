"""Nearest-neighbour enlargement and a 3 x 3 convolution behind it, without the enlarged picture."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.select import phases_pay


def upsample_conv_reference(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"] | None
) -> Float[Tensor, "n o h2 w2"]:
    """Every pixel twice in both directions, then the convolution with one zero pixel around."""
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


def upsample_conv(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"] | None
) -> Float[Tensor, "n o h2 w2"]:
    """:func:`upsample_conv_reference`, by phases where ``select`` has it so; the result then lies channels-last."""
    return (upsample_conv_by_phase if phases_pay(x, weight) else upsample_conv_reference)(x, weight, bias)


def upsample_conv_by_phase(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"] | None
) -> Float[Tensor, "n o h2 w2"]:
    """:func:`upsample_conv_reference` with 4/9 of its products; the result lies channels-last.

    Of the three rows that an output row reads, two are the same input row, whose weights add up: rows of even number
    read two input rows with one pair of kernels, those of odd number with another, and columns alike. The four kinds
    of output pixel are four sets of channels of one 2 x 2 convolution, put in their places afterwards.
    """
    n, _, h, w = x.shape
    o = len(weight)
    y = F.conv2d(x, phases(weight), None if bias is None else bias.repeat(4), padding=1)
    out = torch.empty(n, o, 2 * h, 2 * w, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for i, part in enumerate(torch.split(y, o, 1)):
        row, column = divmod(i, 2)
        out[:, :, row::2, column::2] = part[:, :, row : row + h, column : column + w]
    return out


def phases(weight: Float[Tensor, "o c 3 3"]) -> Float[Tensor, "o4 c 2 2"]:
    """The four kernels, one behind the other: even and odd rows, in each even and odd columns."""
    wide = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    kernels = [kernel for rows in _pairs(wide, 2) for kernel in _pairs(rows, 3)]
    return torch.cat(kernels).to(weight.dtype).contiguous(memory_format=torch.channels_last)


def _pairs(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """What meets the first and the second of two input rows: in an even output row, in an odd one."""
    first, middle, last = weight.unbind(axis)
    return torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)
