"""Group normalisation of channels-last memory as Triton kernels, for inference.

``x`` is ``(b, rows, channels)`` in memory: rows are the pixels of a frame or of a whole clip. A program takes a
block of whole groups, as many as fill a power of two of channels best (12 of 10 channels are 120 of 128 lanes).
Few rows are held whole: one launch. Many are read twice: :func:`norm_statistics` leaves mean and sum of squared
distances of every chunk of rows, :func:`norm_apply` joins them and normalises.

Rows are written as they were read or, of a clip, as windows for a convolution along time, see ``ops.temporal``.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
from torch import Tensor

from kinescribe.ops.group_norm_kernels_triton import norm_apply, norm_statistics, norm_whole
from kinescribe.ops.operation import operation

WHOLE = 16384
"""Numbers a program holds at most when it normalises in one launch; twice as many if no lane is idle."""
BY_FOUR_WARPS = 8192
"""Numbers up to which a program has four warps; with eight, fewer of its size fit into the registers at once."""
SMALL = 1 << 22
CACHED = 1 << 25
LARGE = 1 << 26
"""Sizes of a tensor, in numbers, that want other programs; above the second it is larger than a large GPU's cache."""
MOST_CHUNKS = 256
"""Every program of :func:`norm_apply` reads the statistics of all chunks of its groups."""
NARROWEST = 32
"""Channels that are worth reading together: 64 bytes of a row."""


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
    scale: Tensor | None = None,
) -> Tensor:
    """The norm of ``b c h w``, channels-last; ``shift`` ``(a c)``, ``b`` a multiple of ``a``, is added first.

    Of clips ``b c f p`` it can be ``laid`` out by pixel (1), ``b p f+2 c`` with a frame of zeros at either end; or with
    the frames before and after beside every frame (2), ``b f p 3 c``. With a ``scale``, of one number, what is
    not laid out is divided by it and in 8 bits.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    return _launch(_Read(x), shift, weight, bias, groups, eps, silu, laid, scale)


def forward_of_parts(
    x: Tensor,
    y: Tensor,
    waiting: Tensor | None,
    ahead: Tensor | None,
    beside: bool,
    shift: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool,
    laid: int = 0,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``x + y + waiting + ahead``, channels-last, and its :func:`forward`; ``waiting`` and ``ahead`` are ``1 c``.

    With ``beside``, in place of the sum, the channels of ``x`` and behind them those of ``y``, which may have a part of
    the pictures, each for every so many of ``x``.
    """
    x, y = (part.contiguous(memory_format=torch.channels_last) for part in (x, y))
    whole = _whole(x, y, beside)
    read = _Read(whole, (x, y), (waiting, ahead), 2 if beside else 1)
    return whole, _launch(read, shift, weight, bias, groups, eps, silu, laid, scale)


@dataclass(frozen=True)
class _Read:
    """The picture that is read; as one, or in parts of which it has yet to be made."""

    whole: Tensor
    parts: tuple[Tensor, Tensor] | None = None
    biases: tuple[Tensor | None, Tensor | None] = (None, None)
    kind: int = 0

    def arguments(self) -> tuple[list[Tensor], list[int], dict[str, int | bool]]:
        """For the kernels that read it first: where it lies, its sizes, and which kind it is."""
        x, y = self.parts or (self.whole, self.whole)
        # what is not given is not read, but is an argument all the same
        waiting, ahead = (self.whole if part is None else part for part in self.biases)
        flags = {"PARTS": self.kind, "AHEAD": self.biases[1] is not None}
        return [x, y, waiting, ahead, self.whole], [x.shape[1], len(y)], flags


def _launch(
    read: _Read,
    shift: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool,
    laid: int,
    scale: Tensor | None,
) -> Tensor:
    x = read.whole
    b, channels, height, width = x.shape
    out = _empty(x, laid, scale)
    rows = height * width
    shifted = shift is not None
    repeats = 1 if shift is None else b // shift.shape[0]
    shift = weight[None] if shift is None else shift if shift.stride(1) == 1 else shift.contiguous()
    apart = shift.stride(0)
    flags = {"LAID": laid, "EIGHT": scale is not None, "SHIFTED": shifted, "SILU": silu}
    scale = weight if scale is None else scale
    given, counts, kind = read.arguments()

    held = triton.next_power_of_2(rows)
    block = _block(channels, groups, max(NARROWEST, min(128, WHOLE // held)))
    numbers = held * block.width
    full = block.width == block.together * block.size
    if numbers <= WHOLE << full:
        norm_whole[block.count, b](
            *given, shift, weight, bias, scale, out, rows, groups, *counts, repeats, apart, width, eps,
            **kind, **flags, **_lanes(block), ROWS=held, num_warps=4 if numbers <= BY_FOUR_WARPS else 8,
        )  # fmt: skip
        return out
    block = _block(channels, groups, 256)
    numbers, programs = _tile(b, x.numel(), read.kind)
    if block.count * b * MOST_CHUNKS < programs // 2:  # one large picture of few channels
        block = _block(channels, groups, 64)
    tile, together = max(1, numbers // block.width), block.count * b
    part, parts = _parts(rows, 2 * programs // together, tile)
    # No more chunks than make an eighth of what a program of norm_apply reads anyway.
    length, chunks = _parts(rows, min(MOST_CHUNKS, programs // together, part * block.size // 8), tile)
    means, squares = torch.empty((2, b, groups, chunks), dtype=torch.float32, device=x.device)
    norm_statistics[block.count, chunks, b](
        *given, shift, means, squares, rows, groups, *counts, repeats, apart, length, chunks,
        **kind, SHIFTED=shifted, **_lanes(block), ROWS=tile, num_warps=4,
    )  # fmt: skip
    norm_apply[block.count, parts, b](
        x, shift, weight, bias, scale, means, squares, out, rows, groups, repeats, apart, length, chunks, part, width,
        eps, **flags, **_lanes(block), ROWS=tile, CHUNKS=32 if chunks <= 32 else 128, num_warps=4,
    )  # fmt: skip
    return out


def _whole(x: Tensor, y: Tensor, beside: bool) -> Tensor:
    """Memory for what becomes of two parts."""
    channels = x.shape[1] + (y.shape[1] if beside else 0)
    shape = len(x), channels, *x.shape[2:]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _tile(pictures: int, numbers: int, parts: int) -> tuple[int, int]:
    """Numbers a program reads at a time, with the next ones on their way; and how many programs are aimed at.

    As the sweeps of an H200 chose, see benchmarks/results/2026-11-22_h200_group_norm_sweep.txt and, for what comes in
    ``parts``, 2026-11-22_h200_parts.txt.
    """
    if parts == 1:
        return 4096, 512 if numbers >= LARGE else 1024
    if parts == 2:
        return 2048, 1024 if numbers > CACHED else 512
    return 2048 if numbers <= SMALL else 4096, 1024 if pictures == 1 and numbers > CACHED else 512


def _empty(x: Tensor, laid: int, scale: Tensor | None) -> Tensor:
    """Memory for the norm of ``x``."""
    b, c, f, p = x.shape
    dtype = x.dtype if scale is None else torch.float8_e4m3fn
    if laid == 0:
        return torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)
    return x.new_empty((b, p, f + 2, c) if laid == 1 else (b, f, p, 3, c), dtype=dtype)


def _lanes(block: _Block) -> dict[str, int]:
    slots = triton.next_power_of_2(block.together)
    return {"TOGETHER": block.together, "SIZE": block.size, "SLOTS": slots, "WIDTH": block.width}


def _parts(rows: int, wanted: int, tile: int) -> tuple[int, int]:
    """Rows of a part, whole tiles, four at least; and how many parts, ``wanted`` at most."""
    length = max(triton.cdiv(triton.cdiv(rows, max(wanted, 1)), tile), 4) * tile
    return length, triton.cdiv(rows, length)


group_norm_op = operation("group_norm")(forward)


@group_norm_op.faked
def _(x, shift, weight, bias, groups, eps, silu, laid=0, scale=None):  # noqa: ARG001
    return _empty(x, laid, scale)


group_norm_of_parts_op = operation("group_norm_of_parts")(forward_of_parts)


@group_norm_of_parts_op.faked
def _(x, y, waiting, ahead, beside, shift, weight, bias, groups, eps, silu, laid=0, scale=None):  # noqa: ARG001
    whole = _whole(x, y, beside)
    return whole, _empty(whole, laid, scale)
