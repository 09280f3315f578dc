"""Convolutions of 8-bit numbers in Triton, as matrix products: the copy engine gathers what each tap of a kernel sees.

A tile is a box of neighbouring pixels. For every tap the engine reads the box moved by it, with zeros for what lies
outside of the picture, so nothing is ever laid out for the product beforehand.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kinescribe.ops.convolution import Onto
from kinescribe.ops.linear_fp8 import KernelCopy
from kinescribe.ops.linear_triton import multiprocessors
from kinescribe.ops.tiles import ConvolutionTile

JOINED = 2048
"""Numbers of the result that a program makes of the sums of all parts."""


@triton.jit
def _put(
    out,
    row,
    column,
    inside,
    stream_ptr,
    bias_ptr,
    ahead_ptr,
    out_ptr,
    ONTO: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Write ``out``, with what it is to be added to."""
    place = row[:, None] + column[None, :]
    if ONTO:
        out += tl.load(stream_ptr + place, mask=inside, other=0.0).to(tl.float32)
        out += _biases(column, bias_ptr, ahead_ptr, AHEAD)[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _biases(column, bias_ptr, ahead_ptr, AHEAD: tl.constexpr):
    bias = tl.load(bias_ptr + column).to(tl.float32)
    if AHEAD:
        bias += tl.load(ahead_ptr + column).to(tl.float32)
    return bias


@triton.jit
def _convolve(
    x, taps, taps_beside, scale_ptr, norm_scale_ptr, stream_ptr, bias_ptr, ahead_ptr, out_ptr,
    pictures, height, width, c, n, parts, ONTO: tl.constexpr, AHEAD: tl.constexpr, SPLIT: tl.constexpr,
    TALL: tl.constexpr, WIDE: tl.constexpr, P: tl.constexpr, H: tl.constexpr, W: tl.constexpr, N: tl.constexpr,
    BESIDE: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """The convolution of ``(pictures, height, width, c)`` by ``(n, TALL WIDE c)``, scaled; ``n`` is whole tiles.

    A tile is ``P`` pictures by ``H`` rows by ``W`` columns, and ``N + BESIDE`` channels. With ``SPLIT`` each of
    ``parts`` sums its share of the factors; these are added and scaled later.
    """
    across, high, broad = n // (N + BESIDE), tl.cdiv(height, H), tl.cdiv(width, W)
    tiles = tl.cdiv(pictures, P) * high * broad * across
    by_tap = c // K
    steps = TALL * WIDE * by_tap // parts
    for number in tl.range(tl.program_id(0), tiles * parts, tl.num_programs(0)):
        part, tile = number // tiles, number % tiles
        place, channel = tile // across, (tile % across) * (N + BESIDE)
        picture, top, left = place // (high * broad) * P, place // broad % high * H, place % broad * W
        # channels by pixels: of a product's two sides only the second may be read in the shape of a box
        product = tl.zeros((N, P * H * W), tl.float32)
        product_beside = tl.zeros((BESIDE if BESIDE else 16, P * H * W), tl.float32)
        for step in range(part * steps, (part + 1) * steps):
            tap, at = step // by_tap, step * K
            y, z = top + tap // WIDE - TALL // 2, left + tap % WIDE - WIDE // 2
            seen = tl.trans(tl.reshape(x.load([picture, y, z, (step % by_tap) * K]), (P * H * W, K)))
            product = tl.dot(taps.load([channel, at]), seen, product)
            if BESIDE:
                product_beside = tl.dot(taps_beside.load([channel + N, at]), seen, product_beside)

        pixel = tl.arange(0, P * H * W)
        p, y, z = picture + pixel // (H * W), top + pixel // W % H, left + pixel % W
        inside = ((p < pictures) & (y < height) & (z < width))[:, None]
        row = (((p + part * pictures).to(tl.int64) * height + y) * width + z) * n
        scale = 1.0 if SPLIT else tl.load(scale_ptr) * tl.load(norm_scale_ptr)
        column = channel + tl.arange(0, N)
        out = tl.trans(product) * scale
        _put(out, row, column, inside, stream_ptr, bias_ptr, ahead_ptr, out_ptr, ONTO, AHEAD)
        if BESIDE:
            column = channel + N + tl.arange(0, BESIDE)
            out = tl.trans(product_beside) * scale
            _put(out, row, column, inside, stream_ptr, bias_ptr, ahead_ptr, out_ptr, ONTO, AHEAD)


@triton.jit
def _join(
    sums_ptr, scale_ptr, norm_scale_ptr, stream_ptr, bias_ptr, ahead_ptr, out_ptr, numbers, n, parts,
    ONTO: tl.constexpr, AHEAD: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Add what the parts have summed, and what that is to be added to."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < numbers
    total = tl.zeros((SIZE,), tl.float32)
    for _ in range(parts):
        total += tl.load(sums_ptr + at, mask=inside, other=0.0)
        sums_ptr += numbers
    total *= tl.load(scale_ptr) * tl.load(norm_scale_ptr)
    if ONTO:
        total += tl.load(stream_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total += _biases(at % n, bias_ptr, ahead_ptr, AHEAD)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=inside)


def convolve(
    x: Tensor, copy: KernelCopy, dtype: torch.dtype, tile: ConvolutionTile, onto: Onto | None = None
) -> Tensor:
    """The convolution of ``b c h w`` in 8 bits, channels-last, with zeros around, by a kernel's copy; so too.

    Added to the stream and the biases of ``onto``, if given.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    b, c, h, w = x.shape
    n, tall, wide, _ = copy.taps.shape
    kernel = copy.taps.view(n, -1)
    seen = TensorDescriptor(x, [b, h, w, c], [h * w * c, w * c, c, 1], [*tile.box, tile.k])
    taps, beside = (
        TensorDescriptor(kernel, list(kernel.shape), [kernel.shape[1], 1], [size, tile.k])
        for size in (tile.n, tile.beside or 16)
    )
    out = torch.empty((b, n, h, w), dtype=dtype, device=x.device, memory_format=torch.channels_last)
    split = tile.parts > 1
    sums = x.new_empty((tile.parts, out.numel()), dtype=torch.float32) if split else out
    stream, bias, ahead = (out, None, None) if onto is None else onto
    stream = stream.contiguous(memory_format=torch.channels_last)
    given = stream, out if bias is None else bias, out if ahead is None else ahead
    flags = {"ONTO": onto is not None, "AHEAD": ahead is not None}
    boxes = math.prod(map(triton.cdiv, (b, h, w), tile.box))
    tiles = boxes * (n // (tile.n + tile.beside)) * tile.parts
    p, high, broad = tile.box
    _convolve[(min(tiles, tile.together * multiprocessors(x.device)),)](
        seen, taps, beside, copy.scale, copy.norm_scale, *given, sums, b, h, w, c, n, tile.parts, SPLIT=split,
        **(dict.fromkeys(flags, False) if split else flags), TALL=tall, WIDE=wide, P=p, H=high, W=broad,
        N=tile.n, BESIDE=tile.beside, K=tile.k, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if split:
        _join[(triton.cdiv(out.numel(), JOINED),)](
            sums, copy.scale, copy.norm_scale, *given, out, out.numel(), n, tile.parts, **flags, SIZE=JOINED
        )
    return out
