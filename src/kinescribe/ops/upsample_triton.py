"""The four kinds of pixel of an enlarging convolution put in their places, as a Triton kernel for inference."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kinescribe.ops.operation import operation

PIXELS = 32
"""Pixels of a program,"""
CHANNELS = 128
"""and channels of each."""


@triton.jit(do_not_specialize=["count", "height", "width"])
def _place(
    y_ptr, bias_ptr, out_ptr, count, height, width, channels,
    BIASED: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Pixel ``(2 i + row, 2 j + column)`` is the set (row, column) of channels of pixel ``(i + row, j + column)``."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    mask = (pixel < count)[:, None] & (channel < channels)[None, :]
    across, down, picture = pixel % width, pixel // width % height, pixel // (width * height)
    row, column = down % 2, across % 2
    source = (
        (picture * (height // 2 + 1) + down // 2 + row).to(tl.int64) * (width // 2 + 1) + across // 2 + column
    )
    source = source * 4 + row * 2 + column
    value = tl.load(y_ptr + source[:, None] * channels + channel[None, :], mask=mask, other=0.0)
    if BIASED:
        bias = tl.load(bias_ptr + channel, mask=channel < channels, other=0.0)
        value = (value.to(tl.float32) + bias.to(tl.float32)[None, :]).to(value.dtype)
    tl.store(out_ptr + pixel.to(tl.int64)[:, None] * channels + channel[None, :], value, mask=mask)


def place(y: Tensor, bias: Tensor | None) -> Tensor:
    """``n 4o h+1 w+1``, all kinds of pixel as channels, to ``n o 2h 2w``, with a bias added; channels-last."""
    y = y.contiguous(memory_format=torch.channels_last)
    out = _empty(y)
    n, channels, height, width = out.shape
    count = n * height * width
    _place[triton.cdiv(count, PIXELS), triton.cdiv(channels, CHANNELS)](
        y, y if bias is None else bias, out, count, height, width, channels,
        BIASED=bias is not None, PIXELS=PIXELS, CHANNELS=CHANNELS, num_warps=4,
    )  # fmt: skip
    return out


def _empty(y: Tensor) -> Tensor:
    n, sets, tall, wide = y.shape
    shape = (n, sets // 4, 2 * (tall - 1), 2 * (wide - 1))
    return torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=torch.channels_last)


place_op = operation("place")(place)


@place_op.faked
def _(y, bias):  # noqa: ARG001 - no part of the shape
    return _empty(y)
