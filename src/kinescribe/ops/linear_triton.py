"""Linear layers with their epilogue as one Triton kernel, and the gate alone, for inference.

The gated product interleaves value and gate: column ``2 i`` of a tile is row ``i`` of the weight and column
``2 i + 1`` row ``n / 2 + i``. So the tensor cores see one plain product, and the two numbers that are multiplied at
the end lie in neighbouring registers of one thread.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kinescribe.ops.fast_math_triton import exp2, reciprocal
from kinescribe.ops.operation import operation
from kinescribe.ops.tiles import Tile, linear_tile

GATES = 2048
"""Results of a program of the gate alone."""


@triton.jit
def times_gelu(value, gate):
    """``value`` times the exact GELU of ``gate``; float32.

    The tail of the normal distribution is formula 7.1.26 of Abramowitz and Stegun, right to 1e-7: with the library's
    error function the gate takes as long as the product before it.
    """
    far = tl.abs(gate)
    scaled = 0.84932180028801905 * far  # of which the square is the exponent of 2
    t = reciprocal(1.0 + 0.27273748 * scaled)
    tail = (((0.5307027145 * t - 0.7265760135) * t + 0.7107068705) * t - 0.142248368) * t + 0.127414796
    return value * (tl.maximum(gate, 0.0) - far * (tail * t * exp2(-scaled * scaled)))


@triton.jit
def _geglu(x_ptr, out_ptr, rows, width, apart, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    place = row.to(tl.int64)[:, None] * (2 * width) + column[None, :]
    value = tl.load(x_ptr + place, mask=mask, other=0.0)
    gate = tl.load(x_ptr + place + width, mask=mask, other=0.0)
    out = times_gelu(value.to(tl.float32), gate.to(tl.float32)).to(value.dtype)
    tl.store(out_ptr + row.to(tl.int64)[:, None] * apart + column[None, :], out, mask=mask)


@triton.jit
def tile_at(number, across, down, GROUP: tl.constexpr):
    """Row and column of a tile, in an order in which those at work share what they read."""
    group, inside = number // (GROUP * across), number % (GROUP * across)
    tall = tl.minimum(down - group * GROUP, GROUP)
    return group * GROUP + inside % tall, inside // tall


@triton.jit
def _linear(
    x, weight, bias_ptr, residual_ptr, out_ptr, m, n, k, apart, GATED: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """``residual + x @ weight' + bias``, or that without ``residual`` gated; ``n`` and ``k`` are whole tiles.

    ``x`` and ``weight`` are descriptors of tiles for the copy engine. A program computes many tiles, in an order in
    which those at work share what they read; the next one's numbers come while one is ended.
    """
    across, down = n // N, tl.cdiv(m, M)
    for number in tl.range(tl.program_id(0), down * across, tl.num_programs(0), flatten=True):
        tile_m, tile_n = tile_at(number, across, down, GROUP)
        product = tl.zeros((M, N), tl.float32)
        for at in range(0, k, K):
            left = x.load([tile_m * M, at])
            if GATED:
                right = tl.reshape(weight.load([tile_n * (N // 2), 0, at]), (N, K))
            else:
                right = weight.load([tile_n * N, at])
            product = tl.dot(left, tl.trans(right), product, input_precision="ieee")

        row, column = tile_m * M + tl.arange(0, M), tile_n * N + tl.arange(0, N)
        source = (column % 2) * (n // 2) + column // 2 if GATED else column
        product += tl.load(bias_ptr + source).to(tl.float32)[None, :]
        if GATED:
            value, gate = tl.split(tl.reshape(product, (M, N // 2, 2)))
            column = tile_n * (N // 2) + tl.arange(0, N // 2)
            out = times_gelu(value, gate)
        else:
            place = row.to(tl.int64)[:, None] * n + column[None, :]
            out = product + tl.load(residual_ptr + place, mask=(row < m)[:, None], other=0.0).to(tl.float32)
        place = row.to(tl.int64)[:, None] * apart + column[None, :]
        tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=(row < m)[:, None])


def geglu(x: Tensor, out: Tensor | None = None) -> Tensor:
    """The first half of the last axis times the exact GELU of the second; into a part of wider rows, if given."""
    x = x.contiguous()
    width = x.shape[-1] // 2
    rows = x.numel() // (2 * width)
    out = x.new_empty((*x.shape[:-1], width)) if out is None else out
    # 1280, 2560 and 5120 columns are whole blocks of 256
    lanes = min(256, triton.next_power_of_2(width))
    tall = GATES // lanes
    _geglu[triton.cdiv(rows, tall), triton.cdiv(width, lanes)](
        x, out, rows, width, _apart(out), ROWS=tall, WIDTH=lanes, num_warps=4
    )
    return out


def linear(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, tile: Tile, out: Tensor | None = None
) -> Tensor:
    """``residual`` plus the linear layer of ``(*, k)``, or without ``residual`` the layer gated, half as wide.

    It is written to ``out``, if given, which may be a part of wider rows.
    """
    x, weight = x.contiguous(), weight.contiguous()
    n, k = weight.shape
    m = x.numel() // k
    gated = residual is None
    out = x.new_empty((*x.shape[:-1], n // 2 if gated else n)) if out is None else out
    tiles = triton.cdiv(m, tile.m) * (n // tile.n)
    _linear[(min(tiles, tile.together * multiprocessors(x.device)),)](
        *described(x, weight, tile, gated=gated), bias, x if residual is None else residual.contiguous(), out,
        m, n, k, _apart(out), GATED=gated, M=tile.m, N=tile.n, K=tile.k, GROUP=tile.group, num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip
    return out


def _apart(rows: Tensor) -> int:
    """How far one row begins behind the other in memory, the same for all."""
    return rows.stride(-2) if rows.ndim > 1 else rows.shape[-1]


def multiprocessors(device: torch.device) -> int:
    """How many a GPU has; a few in the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 3


def described(
    x: Tensor, weight: Tensor, tile: Tile, *, gated: bool
) -> tuple[TensorDescriptor, TensorDescriptor]:
    """Descriptors of tiles; seen as ``(n / 2, 2, k)``, the weight has value and gate next to each other."""
    n, k = weight.shape
    left = TensorDescriptor(x, [x.numel() // k, k], [k, 1], [tile.m, tile.k])
    if gated:
        return left, TensorDescriptor(weight, [n // 2, 2, k], [k, n // 2 * k, 1], [tile.n // 2, 2, tile.k])
    return left, TensorDescriptor(weight, [n, k], [k, 1], [tile.n, tile.k])


@operation("geglu")
def geglu_op(x: Tensor) -> Tensor:
    """:func:`geglu` as an operation."""
    return geglu(x)


@operation("linear_geglu")
def linear_geglu_op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The gated :func:`linear` as an operation, with the tile of the table."""
    return linear(x, weight, bias, None, _tile(x, weight, gated=True))


def linear_geglu_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The gated :func:`linear` in a part of wider rows, for inference."""
    with torch.cuda.device_of(x):
        return linear(x, weight, bias, None, _tile(x, weight, gated=True), out)


def geglu_into(out: Tensor, x: Tensor) -> Tensor:
    """:func:`geglu` in a part of wider rows, for inference."""
    with torch.cuda.device_of(x):
        return geglu(x, out)


@operation("linear_add")
def linear_add_op(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """:func:`linear` with its residual as an operation, with the tile of the table."""
    return linear(x, weight, bias, residual, _tile(x, weight, gated=False))


def _tile(x: Tensor, weight: Tensor, *, gated: bool) -> Tile:
    n, k = weight.shape
    tile = linear_tile(x.numel() // k, n, k, gated=gated)
    if tile is None:
        raise ValueError(
            f"the table has no tile for {tuple(x.shape)} @ {(k, n)}: call kinescribe.ops.linear instead"
        )
    return tile


@geglu_op.faked
def _(x):
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


@linear_geglu_op.faked
def _(x, weight, bias):  # noqa: ARG001 - the shape is that of x and weight
    return x.new_empty((*x.shape[:-1], weight.shape[0] // 2))


@linear_add_op.faked
def _(x, weight, bias, residual):  # noqa: ARG001
    return x.new_empty((*x.shape[:-1], weight.shape[0]))
