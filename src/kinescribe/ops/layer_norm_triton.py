"""Layer normalisation as one Triton kernel, for inference: a row is read once, summed, normalised and written."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kinescribe.ops.linear_fp8_triton import rows_in_eight_bits
from kinescribe.ops.operation import operation

TILE = 4096
"""Numbers a program holds, as whole rows."""


@triton.jit
def _normalise(
    x_ptr, y_ptr, weight_ptr, bias_ptr, waiting_ptr, ahead_ptr, sum_ptr, out_ptr, scale_ptr, rows, width, sum_apart,
    eps, ADD: tl.constexpr, WAITING: tl.constexpr, AHEAD: tl.constexpr, EIGHT: tl.constexpr, ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = column < width
    mask = (row < rows)[:, None] & inside[None, :]
    place = row[:, None].to(tl.int64) * width + column[None, :]
    x = tl.load(x_ptr + place, mask=mask, other=0.0)
    if ADD:
        y = tl.load(y_ptr + place, mask=mask, other=0.0)
        total = x.to(tl.float32) + y.to(tl.float32)
        if WAITING:
            total += tl.load(waiting_ptr + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        x = total.to(x.dtype)
        if AHEAD:
            total += tl.load(ahead_ptr + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        tl.store(
            sum_ptr + row[:, None].to(tl.int64) * sum_apart + column[None, :], total.to(x.dtype), mask=mask
        )
    weight = tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)
    wide = x.to(tl.float32)
    mean = tl.sum(wide, 1) / width
    apart = tl.where(mask, wide - mean[:, None], 0.0)
    inverse = tl.rsqrt(tl.sum(apart * apart, 1) / width + eps)
    out = (apart * inverse[:, None] * weight[None, :] + bias[None, :]).to(x.dtype)
    if EIGHT:
        numbers, scales = rows_in_eight_bits(out.to(tl.float32))
        tl.store(out_ptr + place, numbers, mask=mask)
        tl.store(scale_ptr + row, scales, mask=row < rows)
    else:
        tl.store(out_ptr + place, out, mask=mask)


def forward(
    x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, eps: float,
    waiting: Tensor | None = None, ahead: Tensor | None = None, into: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``x + y + waiting + ahead`` (``x`` itself without ``y``), and its norm, without ``ahead``; float32 inside.

    The sum is written ``into`` a part of wider rows, if given.
    """
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return _normalised(x, y, weight, bias, eps, waiting, ahead, into, out, None), out


def forward_rows8(
    x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, eps: float,
    waiting: Tensor | None = None, ahead: Tensor | None = None, into: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """:func:`forward`, of whose norm the rows are in 8 bits, numbers and scales, as ``ops.linear_fp8`` has them."""
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn, memory_format=torch.contiguous_format)
    scales = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
    return _normalised(x, y, weight, bias, eps, waiting, ahead, into, out, scales), out, scales


def _normalised(
    x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, eps: float, waiting: Tensor | None,
    ahead: Tensor | None, into: Tensor | None, out: Tensor, scales: Tensor | None,
) -> Tensor:  # fmt: skip
    """The sum; the norm comes into ``out``, in 8 bits where there are ``scales``."""
    x = x.contiguous()
    total = x if y is None else torch.empty_like(x) if into is None else into
    width = x.shape[-1]
    rows, lanes = x.numel() // width, triton.next_power_of_2(width)
    tall = max(1, TILE // lanes)
    apart = width if into is None else into.stride(-2)
    with torch.cuda.device_of(x):
        _normalise[(triton.cdiv(rows, tall),)](
            x, x if y is None else y.contiguous(), weight, bias, bias if waiting is None else waiting,
            bias if ahead is None else ahead, total, out, out if scales is None else scales, rows, width, apart, eps,
            ADD=y is not None, WAITING=waiting is not None, AHEAD=ahead is not None, EIGHT=scales is not None,
            ROWS=tall, WIDTH=lanes, num_warps=4,
        )  # fmt: skip
    return total


@operation("layer_norm")
def layer_norm_op(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The norm of :func:`forward` as an operation that compilers know."""
    return forward(x, None, weight, bias, eps)[1]


@operation("add_layer_norm")
def add_layer_norm_op(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float, waiting: Tensor | None = None,
    ahead: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """:func:`forward` of a sum as an operation that compilers know."""
    return forward(x, y, weight, bias, eps, waiting, ahead)


@layer_norm_op.faked
def _(x, weight, bias, eps):  # noqa: ARG001 - the shape is that of x
    return x.new_empty(x.shape)


@add_layer_norm_op.faked
def _(x, y, weight, bias, eps, waiting=None, ahead=None):  # noqa: ARG001
    return x.new_empty(x.shape), x.new_empty(x.shape)
