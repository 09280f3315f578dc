"""Which tile a matrix product with something behind it uses, by its size; or none, and the library multiplies."""

from dataclasses import dataclass


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
