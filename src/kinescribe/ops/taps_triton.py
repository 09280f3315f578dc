"""Convolutions in Triton as matrix products, of 16 and of 8 bits: the copy engine gathers what each tap sees.

A tile is a box of neighbouring pixels. For every tap the engine reads the box moved by it, with zeros for what lies
outside of the picture, so nothing is ever laid out for the product beforehand.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kinescribe.ops.linear_triton import multiprocessors
from kinescribe.ops.operation import operation
from kinescribe.ops.tiles import ConvolutionTile, convolution_tile, enlarging_tile

JOINED = 2048
"""Numbers of the result that a program makes of the sums of all parts."""
LEAST = 16
"""Channels of what stands for those beside where there are none, and is never used: no shape may be empty."""
_LEAST: tl.constexpr = tl.constexpr(LEAST)


@triton.jit
def _put(
    out, row, column, inside, stream_ptr, bias_ptr, ahead_ptr, out_ptr,
    ONTO: tl.constexpr, BIASED: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Write ``out``, channels by pixels, with what it is to be added to."""
    if BIASED:
        out += _biases(column, bias_ptr, ahead_ptr, AHEAD)[:, None]
    out = tl.trans(out)
    place = row[:, None] + column[None, :]
    if ONTO:
        out += tl.load(stream_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _biases(column, bias_ptr, ahead_ptr, AHEAD: tl.constexpr):
    bias = tl.load(bias_ptr + column).to(tl.float32)
    if AHEAD:
        bias += tl.load(ahead_ptr + column).to(tl.float32)
    return bias


@triton.jit
def _convolve(
    x, taps, taps_beside, scale_ptr, stream_ptr, bias_ptr, ahead_ptr, out_ptr,
    pictures, height, width, c, n, parts,
    SCALED: tl.constexpr, ONTO: tl.constexpr, BIASED: tl.constexpr, AHEAD: tl.constexpr,
    TIMES: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr, P: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    N: tl.constexpr, BESIDE: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """The convolution of ``(pictures, height, width, c)`` by ``(n, TALL WIDE c)``, scaled; ``n`` is whole tiles.

    A tile is ``P`` pictures by ``H`` rows by ``W`` columns, and ``N + BESIDE`` channels. Each of ``parts`` sums its
    share of the factors; several are added later. The result has ``TIMES`` as many rows and columns, 1 or 2; of two
    each has kernels of its own, ``n`` for each pair of a row and a column, and the second sees one pixel further on.
    """
    across, high, broad = TIMES * TIMES * n // (N + BESIDE), tl.cdiv(height, H), tl.cdiv(width, W)
    tiles = tl.cdiv(pictures, P) * high * broad * across
    by_tap = c // K
    steps = TALL * WIDE * by_tap // parts
    for number in tl.range(tl.program_id(0), tiles * parts, tl.num_programs(0)):
        part, tile = number // tiles, number % tiles
        place, channel = tile // across, (tile % across) * (N + BESIDE)
        picture, top, left = place // (high * broad) * P, place // broad % high * H, place % broad * W
        kind = 0 if TIMES == 1 else channel // n
        down, aside = kind // TIMES, kind % TIMES
        # channels by pixels: of a product's two sides only the second may be read in the shape of a box
        product = tl.zeros((N, P * H * W), tl.float32)
        product_beside = tl.zeros((BESIDE if BESIDE else _LEAST, P * H * W), tl.float32)
        for step in range(part * steps, (part + 1) * steps):
            tap, at = step // by_tap, step * K
            y, z = top + down + tap // WIDE - TALL // 2, left + aside + tap % WIDE - WIDE // 2
            seen = tl.trans(tl.reshape(x.load([picture, y, z, (step % by_tap) * K]), (P * H * W, K)))
            product = tl.dot(taps.load([channel, at]), seen, product, input_precision="ieee")
            if BESIDE:
                product_beside = tl.dot(
                    taps_beside.load([channel + N, at]), seen, product_beside, input_precision="ieee"
                )

        pixel = tl.arange(0, P * H * W)
        p, y, z = picture + pixel // (H * W), top + pixel // W % H, left + pixel % W
        inside = ((p < pictures) & (y < height) & (z < width))[:, None]
        row = (((p + part * pictures).to(tl.int64) * height + y) * (TIMES * width) + z) * (TIMES * n)
        row += (TIMES * width * down + aside) * n
        scale = tl.load(scale_ptr) if SCALED else 1.0
        column = channel - kind * n + tl.arange(0, N)
        _put(
            product * scale, row, column, inside, stream_ptr, bias_ptr, ahead_ptr, out_ptr, ONTO, BIASED, AHEAD
        )  # fmt: skip
        if BESIDE:
            column = channel - kind * n + N + tl.arange(0, BESIDE)
            _put(
                product_beside * scale, row, column, inside, stream_ptr, bias_ptr, ahead_ptr, out_ptr,
                ONTO, BIASED, AHEAD,
            )  # fmt: skip


@triton.jit
def _join(
    sums_ptr, scale_ptr, stream_ptr, bias_ptr, ahead_ptr, out_ptr, numbers, n, parts,
    SCALED: tl.constexpr, ONTO: tl.constexpr, BIASED: tl.constexpr, AHEAD: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Add what the parts have summed, and what that is to be added to."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < numbers
    total = tl.zeros((SIZE,), tl.float32)
    for _ in range(parts):
        total += tl.load(sums_ptr + at, mask=inside, other=0.0)
        sums_ptr += numbers
    if SCALED:
        total *= tl.load(scale_ptr)
    if ONTO:
        total += tl.load(stream_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if BIASED:
        total += _biases(at % n, bias_ptr, ahead_ptr, AHEAD)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=inside)


@operation("convolve")
def convolve_op(
    x: Tensor,
    taps: Tensor,
    dtype: torch.dtype,
    scale: Tensor | None = None,
    stream: Tensor | None = None,
    bias: Tensor | None = None,
    ahead: Tensor | None = None,
) -> Tensor:
    """:func:`convolve` as an operation, with the tile of the table."""
    return convolve(x, taps, dtype, _tile(x, taps), scale, stream, bias, ahead)


@convolve_op.faked
def _(x, taps, dtype, scale=None, stream=None, bias=None, ahead=None):  # noqa: ARG001
    out, _ = _memory(x, taps, dtype, _tile(x, taps))
    return out


@operation("enlarge")
def enlarge_op(x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`convolve` of twice the size with its bias as an operation, with the tile of the table."""
    return convolve(x, taps, x.dtype, _tile(x, taps, 2), bias=bias, times=2)


@enlarge_op.faked
def _(x, taps, bias):  # noqa: ARG001
    out, _ = _memory(x, taps, x.dtype, _tile(x, taps, 2), 2)
    return out


def _tile(x: Tensor, taps: Tensor, times: int = 1) -> ConvolutionTile:
    (b, _, h, w), (n, tall, wide, c) = x.shape, taps.shape
    choose = convolution_tile if times == 1 else enlarging_tile
    tile = choose((b, h, w), (n, tall, wide, c), x.itemsize)
    if tile is None:
        raise ValueError(f"the table has no tile for {tuple(x.shape)} by {tuple(taps.shape)}")
    return tile


def _memory(
    x: Tensor, taps: Tensor, dtype: torch.dtype, tile: ConvolutionTile, times: int = 1
) -> tuple[Tensor, Tensor]:
    """Memory for the convolution, and for the sums of its parts: the same where there is but one."""
    (b, _, h, w), n = x.shape, len(taps) // times**2
    shape = b, n, times * h, times * w
    out = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
    if tile.parts == 1:
        return out, out
    return out, x.new_empty((tile.parts, out.numel()), dtype=torch.float32)


def convolve(
    x: Tensor,
    taps: Tensor,
    dtype: torch.dtype,
    tile: ConvolutionTile,
    scale: Tensor | None = None,
    stream: Tensor | None = None,
    bias: Tensor | None = None,
    ahead: Tensor | None = None,
    times: int = 1,
) -> Tensor:
    """The convolution of ``b c h w``, channels-last, with zeros around, by ``taps`` ``(o, y, x, c)``; so too.

    Multiplied by ``scale``, if given, and added to the ``stream`` and to the ``bias`` with what comes ``ahead`` of it.
    With ``times`` 2 the result is ``b o/4 2h 2w``: its pixel ``(2 i + row, 2 j + column)`` is made by the quarter
    ``2 row + column`` of the kernels, of 2 x 2, at the pixels from ``(i - 1 + row, j - 1 + column)`` on.
    """
    x, taps = x.contiguous(memory_format=torch.channels_last), taps.contiguous()
    (b, c, h, w), (rows, tall, wide, _) = x.shape, taps.shape
    seen = TensorDescriptor(x, [b, h, w, c], [h * w * c, w * c, c, 1], [*tile.box, tile.k])
    kernel, length = taps.view(rows, -1), tall * wide * c
    sides = [
        TensorDescriptor(kernel, [rows, length], [length, 1], [channels, tile.k])
        for channels in (tile.n, tile.beside or LEAST)
    ]
    out, sums = _memory(x, taps, dtype, tile, times)
    n, split = out.shape[1], tile.parts > 1
    stream = None if stream is None else stream.contiguous(memory_format=torch.channels_last)
    # what is not given is not read, but is an argument all the same
    given = [out if part is None else part for part in (scale, stream, bias, ahead)]
    named = zip(("SCALED", "ONTO", "BIASED", "AHEAD"), (scale, stream, bias, ahead), strict=True)
    flags = {name: part is not None for name, part in named}
    boxes = math.prod(map(triton.cdiv, (b, h, w), tile.box))
    tiles = boxes * (rows // (tile.n + tile.beside)) * tile.parts
    p, high, broad = tile.box
    # parts are scaled and added to when they are joined
    here = dict.fromkeys(flags, False) if split else flags
    _convolve[(min(tiles, tile.together * multiprocessors(x.device)),)](
        seen, *sides, *given, sums, b, h, w, c, n, tile.parts, **here, TIMES=times, TALL=tall, WIDE=wide, P=p,
        H=high, W=broad, N=tile.n, BESIDE=tile.beside, K=tile.k, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if split:
        _join[(triton.cdiv(out.numel(), JOINED),)](
            sums, *given, out, out.numel(), n, tile.parts, **flags, SIZE=JOINED
        )
    return out
