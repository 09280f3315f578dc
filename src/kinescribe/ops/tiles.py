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


LARGE = Tile(128, 256, 64, warps=8, stages=3)
SHARED = Tile(128, 128, 64, warps=8, stages=3)
"""Two such programs fit a multiprocessor: one multiplies while the other gates, adds and writes."""
NARROW = Tile(128, 64, 64, warps=4, stages=4)

FEWEST_TILES = 256
"""With fewer programs, multiprocessors of a large GPU stand still: the library also splits along k."""


def linear_tile(m: int, n: int, k: int, *, gated: bool) -> Tile | None:
    """The tile for ``(m, k) @ (k, n)``, or None where the library and a pass behind it are the better choice."""
    if n % 64 or k % 64:
        return None
    tile = NARROW if n % 128 else LARGE if gated and k >= 1024 and n % 256 == 0 else SHARED
    return tile if -(-m // tile.m) * (n // tile.n) >= FEWEST_TILES else None
