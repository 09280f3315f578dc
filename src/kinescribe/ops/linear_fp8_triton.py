"""8-bit floating point in Triton kernels: rows of numbers to it in one reading, and the products around a gate."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kinescribe.ops.fast_math_triton import tanh
from kinescribe.ops.linear_fp8 import LARGEST, LEAST
from kinescribe.ops.linear_triton import described, multiprocessors, tile_at
from kinescribe.ops.operation import operation
from kinescribe.ops.tiles import EndTile, Tile, end_tile, linear_tile_fp8

TILE = 4096
"""Numbers a program holds, as whole rows."""
_LARGEST: tl.constexpr = tl.constexpr(LARGEST)
_LEAST: tl.constexpr = tl.constexpr(LEAST)


@triton.jit
def rows_in_eight_bits(x):
    """Rows of float32 in e4m3, and the scale of each."""
    own = tl.maximum(tl.max(tl.abs(x), 1), _LEAST)
    return (x * tl.div_rn(_LARGEST, own)[:, None]).to(tl.float8e4nv), tl.div_rn(own, _LARGEST)


@triton.jit
def _quantise_rows(x_ptr, out_ptr, scale_ptr, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    place = row[:, None].to(tl.int64) * width + column[None, :]
    x = tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32)
    numbers, scales = rows_in_eight_bits(x)
    tl.store(out_ptr + place, numbers, mask=mask)
    tl.store(scale_ptr + row, scales, mask=row < rows)


@triton.jit
def _times_gelu_by_tangent(value, gate):
    """``value`` times about the GELU of ``gate``, by the tangent of Hendrycks and Gimpel (2016, arXiv 1606.08415).

    It is within 5e-4 of the exact one, which is less than 8-bit factors leave to tell, for half the instructions.
    """
    half = 0.5 * value * gate
    return half + half * tanh(gate * (0.7978845608 + 0.0356774081 * gate * gate))


@triton.jit
def _linear_gated(
    x, weight, row_scale_ptr, scale_ptr, bias_ptr, factor_ptr, out_ptr, m, n, k, apart, EIGHT: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The gated product of ``ops.linear_triton`` of 8-bit numbers; ``n`` is whole tiles.

    Rows of the result are ``apart``. To be ``EIGHT`` bits, each of its columns is multiplied by a factor.
    """
    across, down = n // N, tl.cdiv(m, M)
    for number in tl.range(tl.program_id(0), down * across, tl.num_programs(0), flatten=True):
        tile_m, tile_n = tile_at(number, across, down, GROUP)
        product = tl.zeros((M, N), tl.float32)
        for at in range(0, k, K):
            right = tl.reshape(weight.load([tile_n * (N // 2), 0, at]), (N, K))
            product = tl.dot(x.load([tile_m * M, at]), tl.trans(right), product)

        row, column = tile_m * M + tl.arange(0, M), tile_n * N + tl.arange(0, N)
        source = (column % 2) * (n // 2) + column // 2
        product *= tl.load(row_scale_ptr + row, mask=row < m, other=0.0)[:, None]
        product *= tl.load(scale_ptr + source)[None, :]
        product += tl.load(bias_ptr + source).to(tl.float32)[None, :]
        value, gate = tl.split(tl.reshape(product, (M, N // 2, 2)))
        column = tile_n * (N // 2) + tl.arange(0, N // 2)
        place = row.to(tl.int64)[:, None] * apart + column[None, :]
        out = _times_gelu_by_tangent(value, gate)
        if EIGHT:
            out *= tl.load(factor_ptr + column)[None, :]
        tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=(row < m)[:, None])


@triton.jit
def _linear_joined(
    stream, gated, weight, weight_beside, folded, folded_beside, scale_ptr, clip_ptr, m, n, k,
    M: tl.constexpr, N: tl.constexpr, BESIDE: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """``clip += scale * gated @ folded' + stream @ weight'``; ``n`` is whole tiles.

    ``gated`` and ``folded`` are in 8 bits and four times as long as the others. A program computes ``M`` rows of
    ``N + BESIDE`` columns; numbers beyond the end of a row are read as zeros.
    """
    across = n // (N + BESIDE)
    top, left = tl.program_id(0) // across * M, tl.program_id(0) % across * (N + BESIDE)
    total, total_beside = tl.zeros((M, N), tl.float32), tl.zeros((M, BESIDE), tl.float32)
    for at in range(0, 4 * k, 2 * K):
        rows = gated.load([top, at])
        total = tl.dot(rows, tl.trans(folded.load([left, at])), total)
        total_beside = tl.dot(rows, tl.trans(folded_beside.load([left + N, at])), total_beside)
    scale = tl.load(scale_ptr)
    total, total_beside = total * scale, total_beside * scale
    for at in range(0, k, K):
        rows = stream.load([top, at])
        total = tl.dot(rows, tl.trans(weight.load([left, at])), total, input_precision="ieee")
        other = tl.trans(weight_beside.load([left + N, at]))
        total_beside = tl.dot(rows, other, total_beside, input_precision="ieee")
    _add_to(clip_ptr, total, top, left, m, n, M, N)
    _add_to(clip_ptr, total_beside, top, left + N, m, n, M, BESIDE)


@triton.jit
def _add_to(clip_ptr, total, top, left, m, n, M: tl.constexpr, N: tl.constexpr):
    row = top + tl.arange(0, M)
    at = clip_ptr + row.to(tl.int64)[:, None] * n + (left + tl.arange(0, N))[None, :]
    mask = (row < m)[:, None]
    total += tl.load(at, mask=mask, other=0.0).to(tl.float32)
    tl.store(at, total.to(clip_ptr.dtype.element_ty), mask=mask)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(m, k)`` in e4m3 and the scales ``(m, 1)`` in float32; see ``ops.linear_fp8``."""
    x = x.contiguous()
    rows, width = x.shape
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scales = x.new_empty((rows, 1), dtype=torch.float32)
    lanes = triton.next_power_of_2(width)
    tall = max(1, TILE // lanes)
    _quantise_rows[(triton.cdiv(rows, tall),)](
        x, out, scales, rows, width, ROWS=tall, WIDTH=lanes, num_warps=4
    )
    return out, scales


def linear_gated(
    x: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, bias: Tensor, tile: Tile, out: Tensor,
    factors: Tensor | None = None,
) -> None:  # fmt: skip
    """The linear layer of ``(m, k)`` in 8 bits by weights ``(n, k)`` in 8 bits, gated, into ``out`` of ``(m, n / 2)``.

    Of ``out`` the rows may lie apart, each is without gaps. With ``factors``, one for each column, it is in 8 bits.
    """
    (m, k), n = x.shape, len(weight)
    tiles = triton.cdiv(m, tile.m) * (n // tile.n)
    _linear_gated[(min(tiles, tile.together * multiprocessors(x.device)),)](
        *described(x, weight, tile, gated=True), scales, weight_scales, bias,
        weight_scales if factors is None else factors, out, m, n, k, out.stride(0), EIGHT=factors is not None,
        M=tile.m, N=tile.n, K=tile.k, GROUP=tile.group, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def linear_gated_fp8(
    x: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, bias: Tensor, out: Tensor,
    factors: Tensor | None = None,
) -> None:  # fmt: skip
    """:func:`linear_gated` with the tile of the table, for inference."""
    tile = linear_tile_fp8(len(x), *weight.shape)
    if tile is None:
        raise ValueError(f"the table has no tile for {tuple(x.shape)} @ {tuple(weight.shape)}'")
    with torch.cuda.device_of(x):
        linear_gated(x.contiguous(), scales.contiguous(), weight, weight_scales, bias, tile, out, factors)


def linear_joined(
    clip: Tensor, stream: Tensor, gated: Tensor, weight: Tensor, folded: Tensor, scale: Tensor, tile: EndTile
) -> None:
    """``clip`` ``(m, n)`` plus ``stream @ weight'`` plus ``scale`` times ``gated @ folded'``, in its memory.

    ``stream`` ``(m, k)`` and ``weight`` ``(n, k)`` are in 16 bits, ``gated`` ``(m, 4 k)`` and ``folded`` ``(n, 4 k)``
    in 8; all without gaps.
    """
    n, k = weight.shape
    m = len(clip)

    def steps(x: Tensor, rows: int, step: int) -> TensorDescriptor:
        return TensorDescriptor(x, list(x.shape), [x.shape[1], 1], [rows, step])

    _linear_joined[(triton.cdiv(m, tile.m) * (n // (tile.n + tile.beside)),)](
        steps(stream, tile.m, tile.k), steps(gated, tile.m, 2 * tile.k),
        steps(weight, tile.n, tile.k), steps(weight, tile.beside, tile.k),
        steps(folded, tile.n, 2 * tile.k), steps(folded, tile.beside, 2 * tile.k), scale, clip, m, n, k,
        M=tile.m, N=tile.n, BESIDE=tile.beside, K=tile.k, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def linear_joined_fp8(
    clip: Tensor, stream: Tensor, gated: Tensor, weight: Tensor, folded: Tensor, scale: Tensor
) -> None:
    """:func:`linear_joined` with the tile of the table, for inference."""
    tile = end_tile(*clip.shape)
    if tile is None:
        raise ValueError(f"the table has no tile for the end of {tuple(clip.shape)}")
    with torch.cuda.device_of(clip):
        linear_joined(clip, stream.contiguous(), gated, weight.contiguous(), folded, scale, tile)


quantise_rows_op = operation("quantise_rows")(quantise_rows)


@quantise_rows_op.faked
def _(x):
    return x.new_empty(x.shape, dtype=torch.float8_e4m3fn), x.new_empty((x.shape[0], 1), dtype=torch.float32)
