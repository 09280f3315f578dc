"""The kernels of ``group_norm_triton``: what each program does with its block of groups and its rows.

All is float32, and free of atomic sums, so equal inputs give equal bits. Squares are of distances from a number of the
group or from a mean, never of values (Chan, Golub and LeVeque 1983).
"""

import triton
import triton.language as tl

from kinescribe.ops.fast_math_triton import exp2, reciprocal

COUNTS = ("repeats", "apart", "others", "length", "chunks", "part", "pixels")
"""Arguments by which no address of pixels is aligned: one compiled kernel serves all their values."""


@triton.jit
def _pairs(a, b, c, d):
    return a + c, b + d


@triton.jit
def _members(
    block, groups, TOGETHER: tl.constexpr, SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr
):
    """Channels of this block and whether they are real; those of each group, one hot (SLOTS, WIDTH)."""
    column = tl.arange(0, WIDTH)
    channel = block * (TOGETHER * SIZE) + column
    real = (column < TOGETHER * SIZE) & (channel < groups * SIZE)
    return channel, real, (column[None, :] // SIZE == tl.arange(0, SLOTS)[:, None]) & real[None, :]


@triton.jit
def _finish(x, mean, scale, bias, SILU: tl.constexpr):
    # the mean goes first: of a group that hardly varies a sum of large products would keep rounding errors alone
    out = (x - mean[None, :]) * scale[None, :] + bias[None, :]
    if SILU:
        out *= reciprocal(1.0 + exp2(out * -1.4426950408889634))
    return out


@triton.jit
def _scaled(x, scale_ptr, EIGHT: tl.constexpr):
    """For results in 8 bits, numbers of which one scale is to be the unit."""
    return x * (1.0 / tl.load(scale_ptr)) if EIGHT else x


@triton.jit
def _per_channel(mean, square, count, member, channel, real, shift, weight_ptr, bias_ptr, eps):
    """What :func:`_finish` takes off, multiplies by and adds, for every channel."""
    scale = tl.load(weight_ptr + channel, mask=real, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=real, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(square / count + eps)
    mean, inverse = tl.reduce(
        (tl.where(member, mean[:, None], 0.0), tl.where(member, inverse[:, None], 0.0)), 0, _pairs
    )
    return mean - shift, scale * inverse, bias


@triton.jit
def _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED: tl.constexpr):
    """What is added to this picture's channels; ``repeats`` pictures share it, rows of it lie so far ``apart``."""
    if SHIFTED:
        place = (b // repeats).to(tl.int64) * apart + channel
        shift = tl.load(shift_ptr + place, mask=real, other=0.0).to(tl.float32)
    else:
        shift = tl.zeros_like(channel).to(tl.float32)
    return shift


@triton.jit
def _read(
    x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, row, channel, mask, rows, channels, first, others,
    PARTS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """These rows of a picture: as they lie (PARTS 0), of the sum of two parts (1), of the channels of both (2).

    Of the latter ``first`` are of the first part; the second has ``others`` pictures, one for several of the first.
    """
    if PARTS == 2:
        of_first = channel[None, :] < first
        place = row[:, None] * first + channel[None, :]
        x = tl.load(x_ptr + b.to(tl.int64) * rows * first + place, mask=mask & of_first, other=0.0)
        second = channels - first
        place = row[:, None] * second + (channel - first)[None, :]
        y_ptr += (b % others).to(tl.int64) * rows * second
        y = tl.load(y_ptr + place, mask=mask & (channel[None, :] >= first), other=0.0)
        x = tl.where(of_first, x, y)
    else:
        start, place = b.to(tl.int64) * rows * channels, row[:, None] * channels + channel[None, :]
        x = tl.load(x_ptr + start + place, mask=mask, other=0.0)
        if PARTS == 1:
            total = x.to(tl.float32) + tl.load(y_ptr + start + place, mask=mask, other=0.0).to(tl.float32)
            real = channel < channels
            total += tl.load(waiting_ptr + channel, mask=real, other=0.0).to(tl.float32)[None, :]
            if AHEAD:
                total += tl.load(ahead_ptr + channel, mask=real, other=0.0).to(tl.float32)[None, :]
            x = total.to(x.dtype)
    return x


@triton.jit
def _store(out_ptr, row, channel, channels, out, mask):
    tl.store(
        out_ptr + row[:, None] * channels + channel[None, :], out.to(out_ptr.dtype.element_ty), mask=mask
    )


@triton.jit
def _put(out_ptr, out, b, row, channel, mask, rows, channels, pixels, LAID: tl.constexpr):
    """Write rows: 0 as they were read; of a clip 1 by pixel, 2 side by side (see ``forward``), ``pixels`` a frame."""
    at, frame, frames = b.to(tl.int64) * rows + row, row // pixels, rows // pixels
    first, last = (frame == 0)[:, None], (frame == frames - 1)[:, None]
    if LAID == 1:
        at = (b.to(tl.int64) * pixels + (row - frame * pixels)) * (frames + 2) + frame + 1
        none = tl.zeros_like(out)
        _store(out_ptr, at - 1, channel, channels, none, mask & first)
        _store(out_ptr, at + 1, channel, channels, none, mask & last)
    elif LAID == 2:
        at = 3 * at + 1
        before = tl.where(frame == 0, at - 1, at - 3 * pixels + 1)
        after = tl.where(frame == frames - 1, at + 1, at + 3 * pixels - 1)
        _store(out_ptr, before, channel, channels, tl.where(first, 0.0, out), mask)
        _store(out_ptr, after, channel, channels, tl.where(last, 0.0, out), mask)
    _store(out_ptr, at, channel, channels, out, mask)


@triton.jit(do_not_specialize=COUNTS)
def norm_whole(
    x_ptr, y_ptr, waiting_ptr, ahead_ptr, whole_ptr, shift_ptr, weight_ptr, bias_ptr, scale_ptr, out_ptr,
    rows, groups, first, others, repeats, apart, pixels, eps, PARTS: tl.constexpr, AHEAD: tl.constexpr,
    LAID: tl.constexpr, EIGHT: tl.constexpr, SHIFTED: tl.constexpr, SILU: tl.constexpr, TOGETHER: tl.constexpr,
    SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """All rows of a block of groups, held from the first read to the only write."""
    block, b, channels = tl.program_id(0), tl.program_id(1), groups * SIZE
    channel, real, member = _members(block, groups, TOGETHER, SIZE, SLOTS, WIDTH)
    row = tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & real[None, :]
    x = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, row, channel, mask, rows, channels, first, others, PARTS, AHEAD
    )  # fmt: skip
    if PARTS:
        _store(whole_ptr + b.to(tl.int64) * rows * channels, row, channel, channels, x, mask)
    # distances are from the first number of the group, which every channel of it has to know
    slot, top = tl.arange(0, SLOTS), tl.zeros((1,), tl.int32)
    group = block * TOGETHER + slot
    base = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, top, channel // SIZE * SIZE, real[None, :], rows, channels, first,
        others, PARTS, AHEAD,
    ).to(tl.float32)  # fmt: skip
    middle = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, top, group * SIZE, ((slot < TOGETHER) & (group < groups))[None, :],
        rows, channels, first, others, PARTS, AHEAD,
    ).to(tl.float32)  # fmt: skip
    middle = tl.reshape(middle, (SLOTS,))
    shift = _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED)
    off = tl.where(mask, x.to(tl.float32) - (base - shift[None, :]), 0.0)
    total, square = tl.reduce((off, off * off), 0, _pairs)
    total, square = tl.reduce(
        (tl.where(member, total[None, :], 0.0), tl.where(member, square[None, :], 0.0)), 1, _pairs
    )
    count = rows * 1.0 * SIZE
    mean, square = middle + total / count, tl.maximum(square - total * (total / count), 0.0)
    mean, scale, bias = _per_channel(
        mean, square, count, member, channel, real, shift, weight_ptr, bias_ptr, eps
    )
    out = _scaled(_finish(x.to(tl.float32), mean, scale, bias, SILU), scale_ptr, EIGHT)
    _put(out_ptr, out, b, row, channel, mask, rows, channels, pixels, LAID)


@triton.jit(do_not_specialize=COUNTS)
def norm_statistics(
    x_ptr, y_ptr, waiting_ptr, ahead_ptr, whole_ptr, shift_ptr, mean_ptr, square_ptr, rows, groups, first, others,
    repeats, apart, length, chunks, PARTS: tl.constexpr, AHEAD: tl.constexpr, SHIFTED: tl.constexpr,
    TOGETHER: tl.constexpr, SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared distances of each group over one chunk of ``length`` rows, as of its first row.

    What comes in parts is written as a whole.
    """
    b, channels = tl.program_id(2), groups * SIZE
    channel, real, member = _members(tl.program_id(0), groups, TOGETHER, SIZE, SLOTS, WIDTH)
    begin = tl.program_id(1) * length
    last = tl.minimum(begin + length, rows)
    row = tl.arange(0, ROWS)
    whole_ptr += b.to(tl.int64) * rows * channels
    base = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, begin.to(tl.int64) + tl.zeros((1,), tl.int64), channel, real[None, :],
        rows, channels, first, others, PARTS, AHEAD,
    ).to(tl.float32)  # fmt: skip
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    square = tl.zeros((ROWS, WIDTH), tl.float32)
    for at in tl.range(begin, last, ROWS, loop_unroll_factor=2):  # so that two reads are under way at once
        here = (at + row < last)[:, None] & real[None, :]
        place = (at + row).to(tl.int64)
        x = _read(
            x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, place, channel, here, rows, channels, first, others, PARTS, AHEAD
        )  # fmt: skip
        if PARTS:
            _store(whole_ptr, place, channel, channels, x, here)
        off = tl.where(here, x.to(tl.float32) - base, 0.0)
        total += off
        square += off * off
    count = (last - begin).to(tl.float32)
    middle, square = tl.reduce((total, square), 0, _pairs)
    middle /= count
    square = tl.maximum(square - count * middle * middle, 0.0)
    middle += tl.sum(base, 0) + _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED)
    mean = tl.sum(tl.where(member, middle[None, :], 0.0), 1) / SIZE
    off = tl.where(member, middle[None, :] - mean[:, None], 0.0)
    square = tl.sum(tl.where(member, square[None, :], 0.0) + count * off * off, 1)
    slot = tl.arange(0, SLOTS)
    group = tl.program_id(0) * TOGETHER + slot
    place = (b * groups + group) * chunks + tl.program_id(1)
    kept = (slot < TOGETHER) & (group < groups)
    tl.store(mean_ptr + place, mean, mask=kept)
    tl.store(square_ptr + place, square, mask=kept)


@triton.jit(do_not_specialize=COUNTS)
def norm_apply(
    x_ptr, shift_ptr, weight_ptr, bias_ptr, scale_ptr, mean_ptr, square_ptr, out_ptr,
    rows, groups, repeats, apart, length, chunks, part, pixels, eps, LAID: tl.constexpr, EIGHT: tl.constexpr,
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
        off = tl.load(mean_ptr + entry, mask=kept, other=0.0) - means
        squares += tl.load(square_ptr + entry, mask=kept, other=0.0) + SIZE * seen * share * off * off
        means += share * off
        seen += count
    mean = tl.sum(seen * means, 1) / rows
    off = means - mean[:, None]
    square = tl.sum(squares + seen * SIZE * off * off, 1)
    shift = _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED)
    mean, scale, bias = _per_channel(
        mean, square, rows * 1.0 * SIZE, member, channel, real, shift, weight_ptr, bias_ptr, eps
    )
    for at in range(first, last, ROWS):
        here = (at + row < last)[:, None] & real[None, :]
        place = start + (at + row)[:, None].to(tl.int64) * channels + channel[None, :]
        out = _scaled(_finish(x.to(tl.float32), mean, scale, bias, SILU), scale_ptr, EIGHT)
        after = (at + ROWS + row < last)[:, None] & real[None, :]
        x = tl.load(x_ptr + place + channels * ROWS, mask=after, other=0.0)
        _put(out_ptr, out, b, at + row, channel, here, rows, channels, pixels, LAID)
