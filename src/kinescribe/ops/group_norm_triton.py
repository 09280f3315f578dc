"""Group normalisation of channels-last memory as Triton kernels, for inference.

``x`` is ``(b, rows, channels)`` in memory: rows are the pixels of a frame or of a whole clip. A program takes a
block of whole groups, as many as fill a power of two of channels best (12 of 10 channels are 120 of 128 lanes).
Few rows are held whole: one launch. Many are read twice: :func:`_norm_statistics` leaves mean and sum of squared
distances of every chunk of rows, :func:`_norm_apply` joins them and normalises. All is float32 and free of atomics, so
equal inputs give equal bits; squares are of distances from a mean or from a first number, never of values (Chan, Golub
and LeVeque 1983).

Rows are written as they were read or, of a clip, as windows for a convolution along time, see ``ops.temporal``.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from kinescribe.ops.operation import operation

WHOLE = 16384
"""Numbers a program holds at most when it normalises in one launch; twice as many if no lane is idle."""
BY_FOUR_WARPS = 8192
"""Numbers up to which a program has four warps; with eight, fewer of its size fit into the registers at once."""
SMALL = 1 << 22
CACHED = 1 << 25
"""Sizes of a tensor, in numbers, that want other programs: the larger no longer fits the cache of a large GPU."""
MOST_CHUNKS = 256
"""Every program of :func:`_norm_apply` reads the statistics of all chunks of its groups."""
NARROWEST = 32
"""Channels that are worth reading together: 64 bytes of a row."""
COUNTS = ("repeats", "length", "chunks", "part", "pixels")
"""Arguments by which no address of pixels is aligned: one compiled kernel serves all their values."""


@triton.jit
def _members(
    block, groups, TOGETHER: tl.constexpr, SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr
):
    """Channels of this block and whether they are real; group of each, one hot (SLOTS, WIDTH)."""
    column = tl.arange(0, WIDTH)
    channel = block * (TOGETHER * SIZE) + column
    real = (column < TOGETHER * SIZE) & (channel < groups * SIZE)
    member = (column[None, :] // SIZE == tl.arange(0, SLOTS)[:, None]) & real[None, :]
    return channel, real, member.to(tl.float32)


@triton.jit
def _join(mean, square, rows, member, SIZE: tl.constexpr):
    """Mean and sum of squared distances of channels, ``rows`` numbers each, to those of their groups."""
    middle = tl.sum(member * mean[None, :], 1) / SIZE
    apart = mean[None, :] - middle[:, None]
    return middle, tl.sum(member * (square[None, :] + rows * apart * apart), 1)


@triton.jit
def _finish(x, mean, scale, bias, SILU: tl.constexpr):
    out = (x - mean[None, :]) * scale[None, :] + bias[None, :]
    if SILU:
        root = tl.rsqrt(1.0 + tl.exp(-out))  # its square is the sigmoid, without a division
        out *= root * root
    return out


@triton.jit
def _per_channel(mean, square, count, member, channel, real, shift, weight_ptr, bias_ptr, eps):
    """What :func:`_finish` takes off, multiplies by and adds, for every channel."""
    inverse = tl.rsqrt(square / count + eps)
    scale = tl.load(weight_ptr + channel, mask=real, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=real, other=0.0).to(tl.float32)
    mean = tl.sum(member * mean[:, None], 0) - shift
    return mean, scale * tl.sum(member * inverse[:, None], 0), bias


@triton.jit
def _shift(shift_ptr, b, repeats, channels, channel, real, SHIFTED: tl.constexpr):
    """What is added to this picture's channels; ``repeats`` pictures share it."""
    if SHIFTED:
        place = (b // repeats).to(tl.int64) * channels + channel
        shift = tl.load(shift_ptr + place, mask=real, other=0.0).to(tl.float32)
    else:
        shift = tl.zeros_like(channel).to(tl.float32)
    return shift


@triton.jit
def _put(out_ptr, out, b, row, channel, mask, rows, channels, pixels, LAID: tl.constexpr):
    """Write rows: 0 as they were read; of a clip 1 by pixel, 2 side by side (see ``forward``), ``pixels`` a frame."""
    out = out.to(out_ptr.dtype.element_ty)
    at, frame, frames = b.to(tl.int64) * rows + row, row // pixels, rows // pixels
    if LAID == 0:
        tl.store(out_ptr + at[:, None] * channels + channel[None, :], out, mask=mask)
    else:
        none, first, last = tl.zeros_like(out), frame == 0, frame == frames - 1
        if LAID == 1:
            at = (b.to(tl.int64) * pixels + (row - frame * pixels)) * (frames + 2) + frame + 1
            tl.store(
                out_ptr + (at - 1)[:, None] * channels + channel[None, :], none, mask=mask & first[:, None]
            )
            tl.store(
                out_ptr + (at + 1)[:, None] * channels + channel[None, :], none, mask=mask & last[:, None]
            )
        else:
            at = 3 * at + 1
            before = tl.where(first, at - 1, at - 3 * pixels + 1)
            after = tl.where(last, at + 1, at + 3 * pixels - 1)
            tl.store(
                out_ptr + before[:, None] * channels + channel[None, :],
                tl.where(first[:, None], none, out),
                mask=mask,
            )
            tl.store(
                out_ptr + after[:, None] * channels + channel[None, :],
                tl.where(last[:, None], none, out),
                mask=mask,
            )
        tl.store(out_ptr + at[:, None] * channels + channel[None, :], out, mask=mask)


@triton.jit(do_not_specialize=COUNTS)
def _norm_whole(
    x_ptr, shift_ptr, weight_ptr, bias_ptr, out_ptr, rows, groups, repeats, pixels, eps, LAID: tl.constexpr,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, TOGETHER: tl.constexpr, SIZE: tl.constexpr,
    SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """All rows of a block of groups, held from the first read to the only write."""
    b, channels = tl.program_id(1), groups * SIZE
    channel, real, member = _members(tl.program_id(0), groups, TOGETHER, SIZE, SLOTS, WIDTH)
    shift = _shift(shift_ptr, b, repeats, channels, channel, real, SHIFTED)
    row = tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & real[None, :]
    place = b.to(tl.int64) * rows * channels + row[:, None] * channels + channel[None, :]
    x = tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, 0) / rows
    apart = tl.where(mask, x - mean[None, :], 0.0)
    mean, square = _join(mean + shift, tl.sum(apart * apart, 0), rows, member, SIZE)
    mean, scale, bias = _per_channel(
        mean, square, rows * 1.0 * SIZE, member, channel, real, shift, weight_ptr, bias_ptr, eps
    )
    _put(out_ptr, _finish(x, mean, scale, bias, SILU), b, row, channel, mask, rows, channels, pixels, LAID)


@triton.jit(do_not_specialize=COUNTS)
def _norm_statistics(
    x_ptr, shift_ptr, mean_ptr, square_ptr, rows, groups, repeats, length, chunks,
    SHIFTED: tl.constexpr, TOGETHER: tl.constexpr, SIZE: tl.constexpr,
    SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared distances of each group over one chunk of ``length`` rows, as of its first row."""
    b, channels = tl.program_id(2), groups * SIZE
    channel, real, member = _members(tl.program_id(0), groups, TOGETHER, SIZE, SLOTS, WIDTH)
    first = tl.program_id(1) * length
    last = tl.minimum(first + length, rows)
    row = tl.arange(0, ROWS)
    x_ptr += b.to(tl.int64) * rows * channels
    base = tl.load(x_ptr + first.to(tl.int64) * channels + channel, mask=real, other=0.0)[None, :]
    spread = base + tl.zeros((ROWS, WIDTH), base.dtype)  # stands for rows past the end: no distance
    base = base.to(tl.float32)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    square = tl.zeros((ROWS, WIDTH), tl.float32)
    for at in tl.range(first, last, ROWS, loop_unroll_factor=2):  # so that two reads are under way at once
        here = (at + row < last)[:, None] & real[None, :]
        place = (at + row)[:, None].to(tl.int64) * channels + channel[None, :]
        apart = tl.load(x_ptr + place, mask=here, other=spread).to(tl.float32) - base
        total += apart
        square += apart * apart
    count = (last - first).to(tl.float32)
    middle = tl.sum(total, 0) / count
    square_sum = tl.maximum(tl.sum(square, 0) - count * middle * middle, 0.0)
    middle += tl.sum(base, 0) + _shift(shift_ptr, b, repeats, channels, channel, real, SHIFTED)
    group_mean, group_square = _join(middle, square_sum, count, member, SIZE)
    slot = tl.arange(0, SLOTS)
    group = tl.program_id(0) * TOGETHER + slot
    place = (b * groups + group) * chunks + tl.program_id(1)
    kept = (slot < TOGETHER) & (group < groups)
    tl.store(mean_ptr + place, group_mean, mask=kept)
    tl.store(square_ptr + place, group_square, mask=kept)


@triton.jit(do_not_specialize=COUNTS)
def _norm_apply(
    x_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, square_ptr, out_ptr,
    rows, groups, repeats, length, chunks, part, pixels, eps, LAID: tl.constexpr,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, TOGETHER: tl.constexpr, SIZE: tl.constexpr,
    SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Join the chunks of a block of groups, then normalise ``part`` rows of it."""
    b, channels = tl.program_id(2), groups * SIZE
    channel, real, member = _members(tl.program_id(0), groups, TOGETHER, SIZE, SLOTS, WIDTH)
    row = tl.arange(0, ROWS)
    first = tl.program_id(1) * part
    last = tl.minimum(first + part, rows)
    start = b.to(tl.int64) * rows * channels
    place = start + (first + row)[:, None].to(tl.int64) * channels + channel[None, :]
    here = (first + row < last)[:, None] & real[None, :]
    # On its way while the statistics are joined; below, the next rows while these are written.
    x = tl.load(x_ptr + place, mask=here, other=0.0)

    slot = tl.arange(0, SLOTS)
    group = tl.program_id(0) * TOGETHER + slot
    # Lane by lane first, the lanes at the end: no sums across threads inside the loop.
    seen = tl.zeros((1, CHUNKS), tl.float32)
    means = tl.zeros((SLOTS, CHUNKS), tl.float32)
    squares = tl.zeros((SLOTS, CHUNKS), tl.float32)
    for begin in range(0, chunks, CHUNKS):
        chunk = begin + tl.arange(0, CHUNKS)
        kept = ((slot < TOGETHER) & (group < groups))[:, None] & (chunk < chunks)[None, :]
        entry = (b * groups + group)[:, None] * chunks + chunk[None, :]
        count = tl.maximum(tl.minimum(rows - chunk * length, length), 0).to(tl.float32)[None, :]
        share = count / tl.maximum(seen + count, 1.0)
        apart = tl.load(mean_ptr + entry, mask=kept, other=0.0) - means
        squares += tl.load(square_ptr + entry, mask=kept, other=0.0) + SIZE * seen * share * apart * apart
        means += share * apart
        seen += count
    mean = tl.sum(seen * means, 1) / rows
    apart = means - mean[:, None]
    square = tl.sum(squares + seen * SIZE * apart * apart, 1)
    shift = _shift(shift_ptr, b, repeats, channels, channel, real, SHIFTED)
    mean, scale, bias = _per_channel(
        mean, square, rows * 1.0 * SIZE, member, channel, real, shift, weight_ptr, bias_ptr, eps
    )
    for at in range(first, last, ROWS):
        here = (at + row < last)[:, None] & real[None, :]
        place = start + (at + row)[:, None].to(tl.int64) * channels + channel[None, :]
        out = _finish(x.to(tl.float32), mean, scale, bias, SILU)
        after = (at + ROWS + row < last)[:, None] & real[None, :]
        x = tl.load(x_ptr + place + channels * ROWS, mask=after, other=0.0)
        _put(out_ptr, out, b, at + row, channel, here, rows, channels, pixels, LAID)


@dataclass(frozen=True)
class _Block:
    """``together`` whole groups of ``size`` channels, in ``width`` lanes; ``count`` blocks make up all groups."""

    together: int
    size: int
    width: int
    count: int


@lru_cache
def _block(channels: int, groups: int, widest: int) -> _Block:
    """The block that wastes the fewest lanes; loads of 16 bytes go before lanes, wide blocks before narrow."""
    size = channels // groups

    def block(together: int) -> _Block:
        width = triton.next_power_of_2(together * size)
        return _Block(together, size, width, triton.cdiv(groups, together))

    def quality(block: _Block) -> tuple[bool, float, int]:
        aligned = block.together * size % 8 == 0
        return aligned, channels / (block.count * block.width), block.width

    counts = range(1, max(1, widest // size) + 1)
    return max((block(n) for n in counts if n <= groups), key=quality)


def forward(
    x: Tensor,
    shift: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool,
    laid: int = 0,
) -> Tensor:
    """The norm of ``b c h w``, channels-last; ``shift`` ``(a c)``, ``b`` a multiple of ``a``, is added first.

    Of clips ``b c f p`` it can be ``laid`` out by pixel (1), ``b p f+2 c`` with a frame of zeros at either end; or with
    the frames before and after beside every frame (2), ``b f p 3 c``.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    b, channels, height, width = x.shape
    out = _empty(x, laid)
    rows = height * width
    shifted = shift is not None
    repeats = 1 if shift is None else b // shift.shape[0]
    shift = weight if shift is None else shift.contiguous()

    held = triton.next_power_of_2(rows)
    block = _block(channels, groups, max(NARROWEST, min(128, WHOLE // held)))
    numbers = held * block.width
    full = block.width == block.together * block.size
    if numbers <= WHOLE << full:
        _norm_whole[block.count, b](
            x, shift, weight, bias, out, rows, groups, repeats, width, eps, LAID=laid,
            SHIFTED=shifted, SILU=silu, **_lanes(block), ROWS=held,
            num_warps=4 if numbers <= BY_FOUR_WARPS else 8,
        )  # fmt: skip
        return out
    block = _block(channels, groups, 256)
    numbers, programs = _tile(b, x.numel())
    if block.count * b * MOST_CHUNKS < programs // 2:  # one large picture of few channels
        block = _block(channels, groups, 64)
    tile, together = max(1, numbers // block.width), block.count * b
    part, parts = _parts(rows, 2 * programs // together, tile)
    # No more chunks than make an eighth of what a program of _norm_apply reads anyway.
    length, chunks = _parts(rows, min(MOST_CHUNKS, programs // together, part * block.size // 8), tile)
    means, squares = torch.empty((2, b, groups, chunks), dtype=torch.float32, device=x.device)
    _norm_statistics[block.count, chunks, b](
        x, shift, means, squares, rows, groups, repeats, length, chunks,
        SHIFTED=shifted, **_lanes(block), ROWS=tile, num_warps=4,
    )  # fmt: skip
    _norm_apply[block.count, parts, b](
        x, shift, weight, bias, means, squares, out, rows, groups, repeats, length, chunks, part, width, eps, LAID=laid,
        SHIFTED=shifted, SILU=silu, **_lanes(block), ROWS=tile,
        CHUNKS=32 if chunks <= 32 else 128, num_warps=4,
    )  # fmt: skip
    return out


def _tile(pictures: int, numbers: int) -> tuple[int, int]:
    """Numbers a program reads at a time, with the next ones on their way; and how many programs are aimed at.

    As the sweep of an H200 chose, see benchmarks/results/2026-11-22_h200_group_norm_sweep.txt.
    """
    return 2048 if numbers <= SMALL else 4096, 1024 if pictures == 1 and numbers > CACHED else 512


def _empty(x: Tensor, laid: int) -> Tensor:
    """Memory for the norm of ``x``."""
    b, c, f, p = x.shape
    if laid == 0:
        return torch.empty_like(x, memory_format=torch.channels_last)
    return x.new_empty((b, p, f + 2, c) if laid == 1 else (b, f, p, 3, c))


def _lanes(block: _Block) -> dict[str, int]:
    slots = triton.next_power_of_2(block.together)
    return {"TOGETHER": block.together, "SIZE": block.size, "SLOTS": slots, "WIDTH": block.width}


def _parts(rows: int, wanted: int, tile: int) -> tuple[int, int]:
    """Rows of a part, whole tiles, four at least; and how many parts, ``wanted`` at most."""
    length = max(triton.cdiv(triton.cdiv(rows, max(wanted, 1)), tile), 4) * tile
    return length, triton.cdiv(rows, length)


group_norm_op = operation("group_norm")(forward)


@group_norm_op.faked
def _(x, shift, weight, bias, groups, eps, silu, laid=0):  # noqa: ARG001
    return _empty(x, laid)
