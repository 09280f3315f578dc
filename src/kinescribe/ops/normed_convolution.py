"""Convolutions of what a norm makes, both chosen together: in 8 bits the norm writes what the products read.

A norm's numbers are known beforehand to lie within a few deviations, so all that it writes has one scale, and a kernel
has one: numbers of e4m3 are as exact, relative to their size, over a range of 2^15.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.convolution import Waiting, add
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import LARGEST, LEAST, KernelCopy, kernel_copy_of
from kinescribe.ops.parts import Parts, first
from kinescribe.ops.select import products_serve
from kinescribe.ops.tiles import MULTIPROCESSORS, convolution_pays, convolution_tile

Onto = tuple[Float[Tensor, "b o h w"], Float[Tensor, "1 o"], Waiting]
"""What a convolution's result is added to: a stream, the convolution's bias, and what comes ahead of others."""
DEVIATIONS = 16.0
"""So many standard deviations of a norm's numbers are told apart; those beyond count as the last."""


def kernel_copied(
    kernel: Float[Tensor, "o c y x"] | Float[Tensor, "o c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
) -> KernelCopy:
    """The kernel of a convolution in 8 bits, for numbers of the norm with that weight and bias."""
    kernel = kernel.detach()
    kernel = kernel if kernel.ndim == 4 else kernel[:, :, None, None]
    taps = kernel.permute(0, 2, 3, 1).contiguous()
    most = DEVIATIONS * norm_weight.detach().float().abs() + norm_bias.detach().float().abs()
    ends = torch.stack(taps.aminmax()).float()  # no copy of the taps for that: memory may be tight
    scale, norm_scale = (x.abs().amax().clamp(min=LEAST) / LARGEST for x in (ends, most))
    return KernelCopy(quantise(taps, scale), scale, norm_scale, scale * norm_scale)


def quantise(x: Float[Tensor, "*n"], scale: Float32[Tensor, ""]) -> Shaped[Tensor, "*n"]:
    """Numbers of one scale in e4m3, the nearest; beyond 448 times the scale, that."""
    wide = x.to(torch.float32, copy=True)
    return wide.mul_(1.0 / scale).clamp_(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def normed_convolution(
    norm: GroupNorm,
    x: Float[Tensor, "b c h w"] | Parts,
    shift: Float[Tensor, "a c"] | None,
    kernel: Float[Tensor, "o c y x"],
    onto: Callable[[], Onto] | None = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b o h w"]] | None:
    """The whole of ``x``, and the convolution by ``kernel``, without bias, of its norm with ``shift``.

    Channels-last, same size; added to what it comes ``onto``, if given, which is asked for last. By the copy that the
    kernel has here and now, or as our product of taps where that is the fastest way in 16 bits; None, with ``x`` as it
    was, where others are. Without a GPU the 8-bit numbers are multiplied in float32. For inference: None where
    gradients are wanted.
    """
    if torch.is_grad_enabled() or norm.training:
        return None
    copy, one = kernel_copy_of(kernel), first(x)
    if products_serve(one, kernel, norm.weight, norm.bias, shift):
        (b, _, h, w), (o, c, tall, wide) = x.shape, kernel.shape
        sizes, taps = (b, h, w), (o, tall, wide, c)
        from kinescribe.ops.taps_triton import convolve_op

        if copy is not None and convolution_tile(sizes, taps, 1) is not None:
            rows, scale, norm_scale = copy.taps, copy.scale, copy.norm_scale
        elif convolution_pays(sizes, taps) and _as_measured(one.device):
            rows, scale, norm_scale = kernel.permute(0, 2, 3, 1), None, None
        else:
            return None
        x, numbers = norm.reading(x, shift, scale=norm_scale)
        return x, convolve_op(numbers, rows, x.dtype, scale, *(onto() if onto else ()))
    if copy is None or one.device.type != "cpu":
        return None
    x, normed = norm.reading(x, shift)
    numbers = quantise(normed, copy.norm_scale).float()
    multiplied = copy.taps.float().permute(0, 3, 1, 2)
    padding = multiplied.shape[2] // 2, multiplied.shape[3] // 2
    out = F.conv2d(numbers, multiplied, padding=padding) * copy.scale
    out = out.to(x.dtype).contiguous(memory_format=torch.channels_last)
    if onto is None:
        return x, out
    stream, bias, ahead = onto()
    return x, add(stream, out, bias, ahead)


def _as_measured(device: torch.device) -> bool:
    """Whether tiles that fill the multiprocessors of the GPU in the table fill this one too, as far as is known."""
    if device.type != "cuda":
        return True
    return torch.cuda.get_device_properties(device).multi_processor_count == MULTIPROCESSORS
