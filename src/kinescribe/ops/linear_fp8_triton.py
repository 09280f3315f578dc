"""Rows of numbers to 8-bit floating point as one Triton kernel: largest number, scale and cast in one reading."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kinescribe.ops.linear_fp8 import LARGEST, LEAST
from kinescribe.ops.operation import operation

TILE = 4096
"""Numbers a program holds, as whole rows."""


@triton.jit
def _quantise_rows(
    x_ptr, out_ptr, scale_ptr, rows, width, least, largest, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    place = row[:, None].to(tl.int64) * width + column[None, :]
    x = tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32)
    scale = tl.div_rn(tl.maximum(tl.max(tl.abs(x), 1), least), largest)
    tl.store(out_ptr + place, tl.div_rn(x, scale[:, None] + tl.zeros_like(x)).to(tl.float8e4nv), mask=mask)
    tl.store(scale_ptr + row, scale, mask=row < rows)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(m, k)`` in e4m3 and the scales ``(m, 1)`` in float32; see ``ops.linear_fp8``."""
    x = x.contiguous()
    rows, width = x.shape
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scales = x.new_empty((rows, 1), dtype=torch.float32)
    lanes = triton.next_power_of_2(width)
    tall = max(1, TILE // lanes)
    _quantise_rows[(triton.cdiv(rows, tall),)](
        x, out, scales, rows, width, LEAST, LARGEST, ROWS=tall, WIDTH=lanes, num_warps=4
    )
    return out, scales


quantise_rows_op = operation("quantise_rows")(quantise_rows)


@quantise_rows_op.faked
def _(x):
    return x.new_empty(x.shape, dtype=torch.float8_e4m3fn), x.new_empty((x.shape[0], 1), dtype=torch.float32)
