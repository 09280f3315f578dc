"""The kernels of ``group_norm_triton``: what each program does with its groups or channels and its rows.

All is float32, and free of atomic sums, so equal inputs give equal bits. Squares are of distances from a number of the
group or from a mean, never of values (Chan, Golub and LeVeque 1983).
"""

import triton
import triton.language as tl

from kinescribe.ops.fast_math_triton import exp2, reciprocal

COUNTS = ("repeats", "apart", "others", "length", "chunks", "part", "pixels", "blocks")
"""Arguments by which no address of pixels is aligned: one compiled kernel serves all their values."""


@triton.jit
def _pairs(a, b, c, d):
    return a + c, b + d


@triton.jit
def _members(block, groups, STEP: tl.constexpr, SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr):
    """Channels of this block of ``STEP`` and whether they are real; its groups, and their channels one hot.

    ``SLOTS`` groups from the first on that has a channel in the block; which are theirs is (SLOTS, WIDTH).
    """
    column = tl.arange(0, WIDTH)
    channel = block * STEP + column
    real = (column < STEP) & (channel < groups * SIZE)
    group = block * STEP // SIZE + tl.arange(0, SLOTS)
    return channel, real, group, (channel[None, :] // SIZE == group[:, None]) & real[None, :]


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
def _origins(
    x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, row, channel, real, group, own, rows, channels, first, others,
    PARTS: tl.constexpr, AHEAD: tl.constexpr, SIZE: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """What distances are from, the first number of a group in this row: for every channel (1, WIDTH), and by group."""
    base = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, row, channel // SIZE * SIZE, real[None, :], rows, channels, first,
        others, PARTS, AHEAD,
    ).to(tl.float32)  # fmt: skip
    middle = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, row, group * SIZE, own[None, :], rows, channels, first, others,
        PARTS, AHEAD,
    ).to(tl.float32)  # fmt: skip
    return base, tl.reshape(middle, (SLOTS,))


@triton.jit
def _by_group(total, square, member, middle, count):
    """Mean of every group and squared distances from it, of the sums of its channels' distances and their squares."""
    total, square = tl.reduce(
        (tl.where(member, total[None, :], 0.0), tl.where(member, square[None, :], 0.0)), 1, _pairs
    )
    return middle + total / count, tl.maximum(square - total * (total / count), 0.0)


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
    channel, real, group, member = _members(block, groups, TOGETHER * SIZE, SIZE, SLOTS, WIDTH)
    row = tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & real[None, :]
    x = _read(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, row, channel, mask, rows, channels, first, others, PARTS, AHEAD
    )  # fmt: skip
    if PARTS:
        _store(whole_ptr + b.to(tl.int64) * rows * channels, row, channel, channels, x, mask)
    shift = _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED)
    own = group < tl.minimum((block + 1) * TOGETHER, groups)
    base, middle = _origins(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, tl.zeros((1,), tl.int32), channel, real, group, own, rows, channels,
        first, others, PARTS, AHEAD, SIZE, SLOTS,
    )  # fmt: skip
    off = tl.where(mask, x.to(tl.float32) - (base - shift[None, :]), 0.0)
    total, square = tl.reduce((off, off * off), 0, _pairs)
    count = rows * 1.0 * SIZE
    mean, square = _by_group(total, square, member, middle, count)
    mean, scale, bias = _per_channel(
        mean, square, count, member, channel, real, shift, weight_ptr, bias_ptr, eps
    )
    out = _scaled(_finish(x.to(tl.float32), mean, scale, bias, SILU), scale_ptr, EIGHT)
    _put(out_ptr, out, b, row, channel, mask, rows, channels, pixels, LAID)


@triton.jit(do_not_specialize=COUNTS)
def norm_statistics(
    x_ptr, y_ptr, waiting_ptr, ahead_ptr, whole_ptr, shift_ptr, mean_ptr, square_ptr, rows, groups, first, others,
    repeats, apart, length, chunks, PARTS: tl.constexpr, AHEAD: tl.constexpr, SHIFTED: tl.constexpr,
    SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared distances of what a block has of each group, over one chunk of ``length`` rows.

    What comes in parts is written as a whole.
    """
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
    block, b, channels = tl.program_id(0), tl.program_id(2), groups * SIZE
    channel, real, group, member = _members(block, groups, WIDTH, SIZE, SLOTS, WIDTH)
    begin = tl.program_id(1) * length
    last = tl.minimum(begin + length, rows)
    row = tl.arange(0, ROWS)
    whole_ptr += b.to(tl.int64) * rows * channels
    base, middle = _origins(
        x_ptr, y_ptr, waiting_ptr, ahead_ptr, b, begin.to(tl.int64) + tl.zeros((1,), tl.int64), channel, real, group,
        group < groups, rows, channels, first, others, PARTS, AHEAD, SIZE, SLOTS,
    )  # fmt: skip
    base -= _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED)[None, :]
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
    total, square = tl.reduce((total, square), 0, _pairs)
    inside = tl.minimum((block + 1) * WIDTH, (group + 1) * SIZE) - tl.maximum(block * WIDTH, group * SIZE)
    count = tl.maximum((last - begin) * inside, 1).to(tl.float32)
    mean, square = _by_group(total, square, member, middle, count)
    place = ((b * tl.num_programs(0) + block) * SLOTS + tl.arange(0, SLOTS)) * chunks + tl.program_id(1)
    tl.store(mean_ptr + place, mean)
    tl.store(square_ptr + place, square)


@triton.jit(do_not_specialize=COUNTS)
def norm_join(
    mean_ptr, square_ptr, joined_ptr, rows, groups, length, chunks, blocks, eps,
    SIZE: tl.constexpr, SLOTS: tl.constexpr, WIDTH: tl.constexpr, TOGETHER: tl.constexpr, CHUNKS: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Mean and inverse deviation of groups, of which :func:`norm_statistics` left chunks in one block or in two."""
    b, one = tl.program_id(1), tl.arange(0, 2 * TOGETHER)
    group, side = tl.program_id(0) * TOGETHER + one % TOGETHER, one // TOGETHER
    first = group * SIZE // WIDTH
    block = (group * SIZE + side * (SIZE - 1)) // WIDTH
    used = (group < groups) & ((side == 0) | (block > first))
    inside = tl.minimum((block + 1) * WIDTH, (group + 1) * SIZE) - tl.maximum(block * WIDTH, group * SIZE)
    inside = tl.where(used, inside, 0).to(tl.float32)[:, None]
    entry = ((b * blocks + block) * SLOTS + group - block * WIDTH // SIZE) * chunks
    if EARLY:  # in this order: who follows reads what has been put together
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    # Lane by lane first, the lanes at the end: no sums across threads inside the loop.
    seen = tl.zeros((1, CHUNKS), tl.float32)
    means = tl.zeros((2 * TOGETHER, CHUNKS), tl.float32)
    squares = tl.zeros((2 * TOGETHER, CHUNKS), tl.float32)
    for begin in range(0, chunks, CHUNKS):
        chunk = begin + tl.arange(0, CHUNKS)
        kept, place = used[:, None] & (chunk < chunks)[None, :], entry[:, None] + chunk[None, :]
        count = tl.maximum(tl.minimum(rows - chunk * length, length), 0).to(tl.float32)[None, :]
        share = count / tl.maximum(seen + count, 1.0)
        off = tl.load(mean_ptr + place, mask=kept, other=0.0) - means
        squares += tl.load(square_ptr + place, mask=kept, other=0.0) + inside * seen * share * off * off
        means += share * off
        seen += count
    # both sides of a group, and all lanes
    count = tl.reshape(inside * seen, (2, TOGETHER, CHUNKS))
    means = tl.reshape(means, (2, TOGETHER, CHUNKS))
    squares = tl.reshape(squares, (2, TOGETHER, CHUNKS))
    numbers = rows * 1.0 * SIZE
    mean = tl.sum(tl.sum(count * means, 2), 0) / numbers
    off = means - mean[None, :, None]
    square = tl.sum(tl.sum(squares + count * off * off, 2), 0)
    group = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)
    place, kept = 2 * (b * groups + group), group < groups
    tl.store(joined_ptr + place, mean, mask=kept)
    tl.store(joined_ptr + place + 1, tl.rsqrt(square / numbers + eps), mask=kept)


@triton.jit(do_not_specialize=COUNTS)
def norm_apply(
    x_ptr, shift_ptr, weight_ptr, bias_ptr, scale_ptr, joined_ptr, out_ptr, rows, groups, repeats, apart, part, pixels,
    LAID: tl.constexpr, EIGHT: tl.constexpr, SHIFTED: tl.constexpr, SILU: tl.constexpr,
    SIZE: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Normalise ``part`` rows of a block of channels by what :func:`norm_join` says of their groups."""
    b, channels = tl.program_id(2), groups * SIZE
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    real = channel < channels
    row = tl.arange(0, ROWS)
    first = tl.program_id(1) * part
    last = tl.minimum(first + part, rows)
    start = b.to(tl.int64) * rows * channels
    place = start + (first + row)[:, None].to(tl.int64) * channels + channel[None, :]
    here = (first + row < last)[:, None] & real[None, :]
    # On its way while the group's numbers are; below, the next rows while these are written. No kernel that is at work
    # writes it: `norm_join` lets this one begin once `norm_statistics` has ended.
    x = tl.load(x_ptr + place, mask=here, other=0.0)
    if EARLY:
        tl.extra.cuda.gdc_wait()
    group = 2 * (b * groups + channel // SIZE)
    mean = tl.load(joined_ptr + group, mask=real, other=0.0)
    mean -= _shift(shift_ptr, b, repeats, apart, channel, real, SHIFTED)
    scale = tl.load(weight_ptr + channel, mask=real, other=0.0).to(tl.float32)
    scale *= tl.load(joined_ptr + group + 1, mask=real, other=0.0)
    bias = tl.load(bias_ptr + channel, mask=real, other=0.0).to(tl.float32)
    for at in range(first, last, ROWS):
        here = (at + row < last)[:, None] & real[None, :]
        place = start + (at + row)[:, None].to(tl.int64) * channels + channel[None, :]
        out = _scaled(_finish(x.to(tl.float32), mean, scale, bias, SILU), scale_ptr, EIGHT)
        after = (at + ROWS + row < last)[:, None] & real[None, :]
        x = tl.load(x_ptr + place + channels * ROWS, mask=after, other=0.0)
        _put(out_ptr, out, b, at + row, channel, here, rows, channels, pixels, LAID)
