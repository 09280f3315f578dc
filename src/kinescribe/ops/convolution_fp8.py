"""Convolutions with 8-bit factors: numbers that the norm in front writes so, multiplied at once.

A norm's numbers are known beforehand to lie within a few deviations, so all that it writes has one scale, and a kernel
has one: numbers of e4m3 are as exact, relative to their size, over a range of 2^15.
"""

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.convolution import Onto, add
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import GRAIN, LARGEST, LEAST, KernelCopy, kernel_copy_of
from kinescribe.ops.select import products_serve
from kinescribe.ops.tiles import convolution_tile

DEVIATIONS = 16.0
"""So many standard deviations of a norm's numbers are told apart; those beyond count as the last."""


def kernel_copied(
    kernel: Float[Tensor, "o c y x"], norm_weight: Float[Tensor, " c"], norm_bias: Float[Tensor, " c"]
) -> KernelCopy:
    """The kernel of a convolution in 8 bits, for numbers of the norm with that weight and bias."""
    taps = kernel.detach().permute(0, 2, 3, 1).contiguous().float()
    most = DEVIATIONS * norm_weight.detach().float().abs() + norm_bias.detach().float().abs()
    scale, norm_scale = (x.abs().amax().clamp(min=LEAST) / LARGEST for x in (taps, most))
    return KernelCopy(quantise(taps, scale), scale, norm_scale)


def copy_serves(kernel: Float[Tensor, "o c y x"]) -> bool:
    """Whether a copy of that kernel could be used where it is: a GPU of another generation has no kernels for it."""
    sizes = kernel.shape[0] % GRAIN == 0 and kernel.shape[1] % GRAIN == 0
    return sizes and (kernel.device.type != "cuda" or torch.cuda.get_device_capability(kernel.device)[0] == 9)


def quantise(x: Float[Tensor, "*n"], scale: Float32[Tensor, ""]) -> Shaped[Tensor, "*n"]:
    """Numbers of one scale in e4m3, the nearest; beyond 448 times the scale, that."""
    return (x.float() * (1.0 / scale)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def normed_convolution_fp8(
    norm: GroupNorm,
    x: Float[Tensor, "b c h w"],
    shift: Float[Tensor, "a c"] | None,
    kernel: Float[Tensor, "o c y x"],
    onto: Onto | None = None,
) -> Float[Tensor, "b o h w"] | None:
    """The convolution by ``kernel``, without bias, of the norm of ``x`` with ``shift``; channels-last, same size.

    Added to what it comes ``onto``, if given. None where the kernel has no copy here and now, or where a GPU's kernel
    has no tile for these sizes. Without a GPU the same 8-bit numbers are multiplied in float32.
    """
    copy = kernel_copy_of(kernel)
    if copy is None:
        return None
    if products_serve(x, norm.weight, norm.bias, shift):
        from kinescribe.ops.convolution_fp8_triton import convolve

        b, _, h, w = x.shape
        n, tall, wide, c = copy.taps.shape
        tile = convolution_tile((b, h, w), (n, tall, wide, c))
        if tile is None:
            return None
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            return convolve(norm.in_eight_bits(x, shift, copy.norm_scale), copy, x.dtype, tile, onto)
    if x.device.type != "cpu":
        return None
    numbers = quantise(norm(x, shift), copy.norm_scale).float()
    taps = copy.taps.float().permute(0, 3, 1, 2)
    padding = taps.shape[2] // 2, taps.shape[3] // 2
    out = F.conv2d(numbers, taps, padding=padding) * (copy.norm_scale * copy.scale)
    out = out.to(x.dtype).contiguous(memory_format=torch.channels_last)
    return out if onto is None else add(onto[0], out, *onto[1:])
