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
    bulk: bool = False
    """Whether the copy engine brings the tiles, instead of the threads."""
    lasting: int = 0
    """So many programs stay on each multiprocessor and compute many tiles: the next one comes while one is ended.

    With none there is a program for every tile.
    """


LARGE = Tile(128, 256, 64, warps=8, stages=3)
NARROW = Tile(128, 64, 64, warps=4, stages=4)

GATED_FROM = 1024
"""From so many inputs a row (k) a gated product of one kernel is as fast as the library's and a pass behind it."""
ADDED_TO = 512
"""Up to so many the pass of an addition costs more than the library's product gains."""
FEWEST_TILES = 256
"""With fewer programs, multiprocessors of a large GPU stand still: the library also splits along k."""


def linear_tile(m: int, n: int, k: int, *, gated: bool) -> Tile | None:
    """The tile for ``(m, k) @ (k, n)``, or None where the library and a pass behind it are the better choice.

    As measured on an H200 at most sizes of the large models, see benchmarks/results/2026-11-21_h200_ops.json.
    """
    tile = LARGE if gated else NARROW
    if (k < GATED_FROM if gated else k > ADDED_TO) or n % tile.n or k % tile.k:
        return None
    return tile if -(-m // tile.m) * (n // tile.n) >= FEWEST_TILES else None
