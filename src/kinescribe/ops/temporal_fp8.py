"""Convolutions along time with 8-bit factors: windows that the norm in front writes so, multiplied at once.

A norm's numbers are known beforehand to lie within a few deviations, so all that it writes has one scale, and a kernel
has one: numbers of e4m3 are as exact, relative to their size, over a range of 2^15.
"""

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import LARGEST, LEAST, KernelCopy
from kinescribe.ops.select import eight_bits_serve, windows_serve

DEVIATIONS = 16.0
"""So many standard deviations of a norm's numbers are told apart; those beyond count as the last."""


def kernel_copied(
    kernel: Float[Tensor, "o c 3 1"], norm_weight: Float[Tensor, " c"], norm_bias: Float[Tensor, " c"]
) -> KernelCopy:
    """The kernel of a convolution along time in 8 bits, for windows of the norm with that weight and bias."""
    rows = kernel.detach().permute(0, 2, 3, 1).flatten(1).float()
    most = DEVIATIONS * norm_weight.detach().float().abs() + norm_bias.detach().float().abs()
    scale, window_scale = (x.abs().amax().clamp(min=LEAST) / LARGEST for x in (rows, most))
    return KernelCopy(quantise(rows, scale), scale, window_scale, kernel.new_zeros(len(rows)))


def quantise(x: Float[Tensor, "*n"], scale: Float32[Tensor, ""]) -> Shaped[Tensor, "*n"]:
    """Numbers of one scale in e4m3, the nearest; beyond 448 times the scale, that."""
    return (x.float() * (1.0 / scale)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def temporal_conv_fp8(
    norm: GroupNorm, x: Float[Tensor, "b c f p"], shift: Float[Tensor, "a c"] | None, copy: KernelCopy
) -> Float[Tensor, "b o f p"]:
    """The convolution of a copy, without bias, of the norm of ``x`` with ``shift``; channels-last.

    Where there is no unit for such products the same 8-bit numbers are multiplied in float32.
    """
    b, c, f, p = x.shape
    if windows_serve(x, norm.weight, norm.bias, shift) and eight_bits_serve(x):
        rows = norm.windows(x, shift, 2, copy.window_scale).view(-1, 3 * c)
        scales = copy.window_scale, copy.scale
        out = torch._scaled_mm(
            rows, copy.numbers.t(), *scales, copy.zeros, out_dtype=x.dtype, use_fast_accum=True
        )
        return out.view(b, f, p, -1).permute(0, 3, 1, 2)
    numbers = quantise(norm(x, shift), copy.window_scale).float()
    kernel = copy.numbers.float().view(-1, 3, 1, c).permute(0, 3, 1, 2)
    out = F.conv2d(numbers, kernel, padding=(1, 0)) * (copy.window_scale * copy.scale)
    return out.to(x.dtype).contiguous(memory_format=torch.channels_last)
