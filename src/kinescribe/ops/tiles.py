"""Which tile a matrix product of ours uses, by its size; or none, and the library multiplies."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod


@dataclass(frozen=True)
class Tile:
    """What one program computes, ``m x n`` of the product in steps of ``k``, and how."""

    m: int
    n: int
    k: int
    warps: int
    stages: int
    group: int = 8
    """Rows of tiles that run together, so that what they read is still in the cache."""
    together: int = 1
    """Programs that work on a multiprocessor at the same time."""


GATED = Tile(128, 256, 64, warps=8, stages=3)
ADDED = Tile(128, 64, 64, warps=4, stages=4, together=2)

GATED_FP8 = Tile(128, 256, 128, warps=8, stages=3)
GATED_FP8_NARROW = Tile(128, 128, 64, warps=4, stages=5, together=2)
"""For rows that are no whole steps of 128; of few steps, which end as long as they multiply: two take turns."""

ADDED_TO = 512
"""Up to so many inputs a row (k) the pass of an addition costs more than the library's product gains."""
FEWEST_TILES = 256
"""With fewer, multiprocessors of a large GPU stand still: the library also splits along k."""


@dataclass(frozen=True)
class EndTile:
    """What one program of a transformer's end computes: ``m`` rows by ``n + beside`` columns, in steps of ``k`` numbers
    of 16 bits or ``2 k`` of 8.
    """

    m: int
    n: int
    beside: int
    """Columns of a second product, for widths that are no power of two."""
    k: int
    warps: int
    stages: int


ENDS = (EndTile(128, 256, 64, 64, warps=8, stages=4), EndTile(64, 256, 64, 64, warps=8, stages=3))
FEWEST_ENDS = 128
"""Tiles of an end: of few rows, whose 16-bit product is split along k, that is the faster one."""


def linear_tile(m: int, n: int, k: int, *, gated: bool) -> Tile | None:
    """The tile for ``(m, k) @ (k, n)``, or None where the library and a pass behind it are the better choice.

    As measured on an H200 at most sizes of the large models, see benchmarks/results/2026-11-22_h200_linear.json and,
    for gates, 2026-11-22_h200_linear_gated.json.
    """
    tile = GATED if gated else ADDED
    if (not gated and k > ADDED_TO) or n % tile.n or k % tile.k:
        return None
    return tile if -(-m // tile.m) * (n // tile.n) >= FEWEST_TILES else None


def linear_tile_fp8(m: int, n: int, k: int) -> Tile | None:
    """The tile for a gated product of 8-bit numbers, or None where its sizes do not fit."""
    tile = GATED_FP8_NARROW if k % GATED_FP8.k else GATED_FP8
    if n % tile.n or k % tile.k:
        return None
    return tile if -(-m // tile.m) * (n // tile.n) >= FEWEST_TILES else None


def end_tile(m: int, n: int) -> EndTile | None:
    """The tile for a transformer's end of ``m`` rows and ``n`` columns in 8 bits, or None where 16 bits serve better.

    As measured on an H200 at 32768 x 320, 8192 x 640 and, the lower tile, 2048 x 1280; None at 512 x 1280.
    """
    for tile in ENDS:
        across, rest = divmod(n, tile.n + tile.beside)
        if rest == 0 and -(-m // tile.m) * across >= FEWEST_ENDS:
            return tile
    return None


@dataclass(frozen=True)
class ConvolutionTile:
    """What one program of a convolution computes: a ``box`` of pixels by ``n + beside`` channels in steps of ``k``."""

    box: tuple[int, int, int]
    """Pictures, rows and columns."""
    n: int
    beside: int
    """Channels of a second product, for widths that are no power of two."""
    k: int
    warps: int
    stages: int
    together: int
    parts: int = 1
    """Sums of a share of the factors each, where there are fewer tiles than multiprocessors."""


@dataclass(frozen=True)
class _Way:
    """A way to tile the channels of a convolution, and how long it takes on an H200, in microseconds."""

    n: int
    beside: int
    warps: int
    steps: tuple[float, ...]
    """A step of 128 bytes with one program on every multiprocessor, with two, ..."""
    half: float
    """What a step of 64 bytes takes, of that."""
    begin: float
    """What a program takes beside its steps."""


Sizes = tuple[int, int, int]
"""Pictures, rows and columns."""
Taps = tuple[int, int, int, int]
"""Kernels, their rows and columns, and channels."""
PIXELS = 128
"""Pixels of a convolution's tile."""
MULTIPROCESSORS = 132
"""Of the GPU that the times are from."""
MOST_PARTS = 6
"""As many as were measured."""
MOST_IDLE, MOST_IDLE_ENLARGING = 1.5, 1.3
"""Boxes that hold more than so many times the pixels there are do not pay; nor so many where pictures are enlarged."""
WIDE, FEW_STEPS = 256, 16
"""A tile is wide from so many channels on; with so few steps of 128 bytes a wide one is no quicker."""
SMALL_PICTURE = 64
"""Pixels below which the library makes 350 to 570 TFLOP/s, where at most sizes it makes 600 to 750."""
MOST_STANDING = 0.06
"""Multiprocessors that may have nothing to do in the last turn, of all tiles."""
JOIN, JOINED_A_MICROSECOND = 3.0, 2_500_000
"""What adding parts takes in microseconds, and how many numbers of theirs it reads in one more."""
WAYS = (
    _Way(256, 64, warps=8, steps=(0.94,), half=0.6, begin=6.5),
    _Way(256, 0, warps=8, steps=(0.69,), half=0.65, begin=5.0),
    _Way(128, 0, warps=4, steps=(0.43, 0.72), half=0.68, begin=3.5),
    _Way(64, 0, warps=4, steps=(0.30, 0.47, 0.65), half=0.88, begin=3.0),
)


@lru_cache
def convolution_tile(sizes: Sizes, taps: Taps, size: int) -> ConvolutionTile | None:
    """The tile for a convolution of numbers of ``size`` bytes, or None.

    The quickest by the times of :data:`WAYS`, which are from benchmarks/results/2026-11-22_h200_taps.txt.
    The family's widths are multiples of 320: with so many channels a tile, what is read for it is read least often.
    """
    return None if _idle(sizes) > MOST_IDLE else _quickest(sizes, taps, size, WAYS)


@lru_cache
def enlarging_tile(sizes: Sizes, taps: Taps, size: int) -> ConvolutionTile | None:
    """The tile for four kernels of 2 x 2, one behind the other, at the same pixels; its channels are of one of them.

    As measured, wide tiles are quicker there than :data:`WAYS` has it, unless they are of few steps, see
    benchmarks/results/2026-11-22_h200_enlarged.txt.
    """
    if _idle(sizes) > MOST_IDLE_ENLARGING:
        return None
    few = taps[1] * taps[2] * taps[3] * size // 128 <= FEW_STEPS
    wide = None if few else _quickest(sizes, taps, size, [way for way in WAYS if way.n >= WIDE], sets=4)
    return wide or _quickest(sizes, taps, size, WAYS, sets=4)


def _quickest(
    sizes: Sizes, taps: Taps, size: int, ways: Iterable[_Way], sets: int = 1
) -> ConvolutionTile | None:
    """The tile that takes the least time of those that fit."""
    (n, tall, wide, c), rows = taps, prod(sizes)
    whole = c * size % 128 == 0
    k = (128 if whole else 64) // size
    box, boxes = _box(sizes)
    if c % k:
        return None
    steps = tall * wide * c // k
    found: list[tuple[float, ConvolutionTile]] = []
    for way in ways:
        channels, together = way.n + way.beside, len(way.steps)
        for parts in range(1, MOST_PARTS + 1):
            if n % (sets * channels) or steps % parts:
                continue
            full, last = divmod(boxes * n // channels * parts, together * MULTIPROCESSORS)
            waves = [together] * full + ([-(-last // MULTIPROCESSORS)] if last else [])
            step = sum(way.steps[programs - 1] for programs in waves) * (1.0 if whole else way.half)
            joined = JOIN + parts * rows * n / JOINED_A_MICROSECOND if parts > 1 else 0.0
            taken = step * steps / parts + way.begin * len(waves) + joined
            stages = 3 if whole else 6
            found.append(
                (taken, ConvolutionTile(box, way.n, way.beside, k, way.warps, stages, together, parts))
            )
    return min(found, key=lambda one: one[0])[1] if found else None


def _idle(sizes: Sizes) -> float:
    """How many times the pixels there are the boxes hold."""
    return _box(sizes)[1] * PIXELS / prod(sizes)


@lru_cache
def convolution_pays(sizes: Sizes, taps: Taps) -> bool:
    """Whether a tile of ours beats the library in 16 bits, see benchmarks/log.md.

    Over pixels, in small pictures and where tiles fill whole turns of the multiprocessors. Along time a product of
    windows is as fast, and takes less power.
    """
    tile, (n, _, wide, _) = convolution_tile(sizes, taps, 2), taps
    if tile is None or wide == 1:
        return False
    tiles = _box(sizes)[1] * n // (tile.n + tile.beside)
    full = tile.beside > 0 and tile.parts == 1 and -tiles % MULTIPROCESSORS <= MOST_STANDING * tiles
    return full or sizes[1] * sizes[2] < SMALL_PICTURE


def _box(sizes: Sizes) -> tuple[tuple[int, int, int], int]:
    """The box of which the fewest hold all pixels, and how many that are; of equal ones the widest."""
    sides = [2**i for i in range(PIXELS.bit_length())]
    boxes = [box for box in product(sides, sides, sides) if prod(box) == PIXELS]

    def count(box: tuple[int, int, int]) -> int:
        return prod(-(-size // side) for size, side in zip(sizes, box, strict=True))

    best = min(boxes, key=lambda box: (count(box), -box[2], -box[1]))
    return best, count(best)
