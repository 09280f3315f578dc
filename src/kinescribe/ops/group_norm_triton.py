"""Group normalisation of channels-last memory as Triton kernels, for inference.

``x`` is ``(b, rows, channels)`` in memory: rows are the pixels of a frame or of a whole clip. Few rows are held whole:
one launch, in which a program takes as many whole groups as fill a power of two of channels best (12 of 10 channels
are 120 of 128 lanes). Many are read twice, in blocks of channels that are whole lines of the cache where the family's
widths allow, whatever groups these belong to: :func:`norm_statistics` leaves mean and sum of squared distances of what
a block has of each group in every chunk of rows, :func:`norm_join` joins them, :func:`norm_apply` normalises.

Rows are written as they were read or, of a clip, as windows for a convolution along time, see ``ops.temporal``.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
from torch import Tensor

from kinescribe.ops.group_norm_kernels_triton import norm_apply, norm_join, norm_statistics, norm_whole
from kinescribe.ops.operation import operation

WHOLE = 16384
"""Numbers a program holds at most when it normalises in one launch; twice as many if no lane is idle."""
BY_FOUR_WARPS = 8192
"""Numbers up to which it has four warps; with eight, fewer of its size fit into the registers at once, which lasts
where there are many: of large tensors a program holds no more than that.
"""
NARROWEST = 32
"""Channels that are worth reading together: 64 bytes of a row."""
JOINED = 4
"""Groups whose chunks a program joins."""
MOST_PROGRAMS = 65535
"""CUDA counts no more programs along an axis but the first."""
SMALL, MEDIUM, CACHED = 1 << 23, 1 << 24, 1 << 25
"""Sizes of a tensor, in numbers, that want other programs; one above the last is larger than a large GPU's cache."""


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
    return _launch(_Read(x), _Norm(shift, weight, bias, groups, eps, silu, laid, scale))


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
    return whole, _launch(read, _Norm(shift, weight, bias, groups, eps, silu, laid, scale))


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


@dataclass(frozen=True)
class _Norm:
    """What becomes of it."""

    shift: Tensor | None
    weight: Tensor
    bias: Tensor
    groups: int
    eps: float
    silu: bool
    laid: int
    scale: Tensor | None

    def arguments(self, pictures: int) -> tuple[list[Tensor], list[int], dict[str, int | bool]]:
        """For the kernels: shift, weight, bias and scale; pictures to a shift, how far apart shifts lie; flags."""
        shift = self.weight[None] if self.shift is None else self.shift
        shift = shift if shift.stride(1) == 1 else shift.contiguous()
        given = [shift, self.weight, self.bias, self.weight if self.scale is None else self.scale]
        flags: dict[str, int | bool] = {"SHIFTED": self.shift is not None, "SILU": self.silu}
        flags |= {"LAID": self.laid, "EIGHT": self.scale is not None}
        return given, [pictures // len(shift), shift.stride(0)], flags


def _launch(read: _Read, norm: _Norm) -> Tensor:
    b, channels, height, width = read.whole.shape
    out, held = _empty(read.whole, norm.laid, norm.scale), triton.next_power_of_2(height * width)
    block = _block(channels, norm.groups, max(NARROWEST, min(128, WHOLE // held)))
    numbers = held * block.width
    most = WHOLE << (block.width == block.together * block.size)
    if numbers > (most if read.whole.numel() <= SMALL else min(most, BY_FOUR_WARPS)):
        _launch_in_chunks(read, norm, out)
        return out
    (x, parts, kind), (given, shifts, flags) = read.arguments(), norm.arguments(b)
    slots = triton.next_power_of_2(block.together)
    norm_whole[block.count, b](
        *x, *given, out, height * width, norm.groups, *parts, *shifts, width, norm.eps, **kind, **flags,
        TOGETHER=block.together, SIZE=block.size, SLOTS=slots, WIDTH=block.width, ROWS=held,
        num_warps=4 if numbers <= BY_FOUR_WARPS else 8,
    )  # fmt: skip
    return out


def _launch_in_chunks(read: _Read, norm: _Norm, out: Tensor) -> None:
    b, channels, height, pixels = read.whole.shape
    rows, groups, size = height * pixels, norm.groups, channels // norm.groups
    sizes = _sizes(read.whole.numel(), read.kind, norm.laid)
    width = _width(channels, size, sizes.widest)
    blocks = triton.cdiv(channels, width)
    read_rows, written_rows = sizes.rows(width)
    slots = triton.next_power_of_2(width // size if width % size == 0 else (width - 2) // size + 2)
    length, chunks = _parts(rows, sizes.readers // (blocks * b), read_rows)
    part, count = _parts(rows, sizes.writers // (blocks * b), written_rows)
    means, squares = torch.empty((2, b, blocks, slots, chunks), dtype=torch.float32, device=out.device)
    joined = torch.empty((b, groups, 2), dtype=torch.float32, device=out.device)
    (x, parts, kind), (given, shifts, flags) = read.arguments(), norm.arguments(b)
    lanes = {"SIZE": size, "WIDTH": width, "EARLY": _launches_early(out.device)}
    early = {"launch_pdl": True} if lanes["EARLY"] else {}
    norm_statistics[blocks, chunks, b](
        *x, given[0], means, squares, rows, groups, *parts, *shifts, length, chunks,
        **kind, SHIFTED=flags["SHIFTED"], **lanes, SLOTS=slots, ROWS=read_rows, num_warps=sizes.warps,
    )  # fmt: skip
    norm_join[triton.cdiv(groups, JOINED), b](
        means, squares, joined, rows, groups, length, chunks, blocks, norm.eps,
        **lanes, SLOTS=slots, TOGETHER=JOINED, CHUNKS=16 if chunks <= 16 else 64, num_warps=1, **early,
    )  # fmt: skip
    norm_apply[blocks, count, b](
        read.whole, *given, joined, out, rows, groups, *shifts, part, pixels,
        **flags, **lanes, ROWS=written_rows, num_warps=4, **early,
    )  # fmt: skip


@lru_cache
def _launches_early(device: torch.device) -> bool:
    """Whether programs may start before those that they wait for have ended, to be there by then."""
    return (
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0) and not torch.version.hip
    )


def _width(channels: int, size: int, widest: int) -> int:
    """Channels of a block: where they can, blocks make up all without an idle lane; no group is in more than two."""
    width = min(widest, channels & -channels)
    if width >= max(NARROWEST, size):
        return width
    return max(min(widest, triton.next_power_of_2(channels)), triton.next_power_of_2(size))


@dataclass(frozen=True)
class _Sizes:
    """Of blocks and programs where rows are read twice."""

    widest: int
    """Channels of a block, unless groups are wider."""
    read: int
    """Numbers a program of the first reading reads at a time, with as many on their way."""
    warps: int
    """Of such a program."""
    readers: int
    """Such programs that are aimed at."""
    written: int
    """Numbers a program of the second reading normalises at a time."""
    writers: int
    """Such programs that are aimed at."""

    def rows(self, width: int) -> tuple[int, int]:
        """Rows of a block of so many channels that are read, and normalised, at a time."""
        return max(1, self.read // width), max(1, self.written // width)


def _sizes(numbers: int, parts: int, laid: int) -> _Sizes:
    """As the sweep of an H200 chose, see benchmarks/results/2026-11-22_h200_group_norm_in_blocks.txt."""
    writing = 2048 if laid else 4096, max(1056, numbers // 10240)
    many = 528 if numbers <= SMALL else 1056
    if parts == 0:
        return _Sizes(64, 2048, 4, many, *writing)
    if parts == 1:
        return (
            _Sizes(128, 4096, 8, 264, *writing) if numbers > MEDIUM else _Sizes(64, 4096, 4, many, *writing)
        )
    return _Sizes(128, 8192, 4, 264, *writing) if numbers > CACHED else _Sizes(64, 4096, 8, 264, *writing)


def _whole(x: Tensor, y: Tensor, beside: bool) -> Tensor:
    """Memory for what becomes of two parts."""
    channels = x.shape[1] + (y.shape[1] if beside else 0)
    shape = len(x), channels, *x.shape[2:]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _empty(x: Tensor, laid: int, scale: Tensor | None) -> Tensor:
    """Memory for the norm of ``x``."""
    b, c, f, p = x.shape
    dtype = x.dtype if scale is None else torch.float8_e4m3fn
    if laid == 0:
        return torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)
    return x.new_empty((b, p, f + 2, c) if laid == 1 else (b, f, p, 3, c), dtype=dtype)


def _parts(rows: int, wanted: int, tile: int) -> tuple[int, int]:
    """Rows of a part, whole tiles; and how many parts, ``wanted`` at most."""
    length = triton.cdiv(triton.cdiv(rows, min(max(wanted, 1), MOST_PROGRAMS)), tile) * tile
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
