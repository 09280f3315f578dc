"""The atlas of subjects: every sprite drawn once per device and resolution, for a few sizes.

A clip then only picks its drawing and colours it; nothing is drawn per frame.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinescribe.world import sprites_nature, sprites_things
from kinescribe.world.clip import SUBJECTS
from kinescribe.world.paper import Board

SMALLEST, LARGEST, LEVELS = 0.17, 0.62, 6
"""Sprite radii, in half frame widths, between which drawings of `LEVELS` softnesses are kept."""

DRAWINGS: dict[str, Callable[[Board], None]] = {
    "balloon": sprites_things.balloon,
    "ball": sprites_things.ball,
    "boat": sprites_things.boat,
    "fish": sprites_nature.fish,
    "bird": sprites_nature.bird,
    "rocket": sprites_things.rocket,
    "car": sprites_things.car,
    "star": sprites_nature.star,
    "heart": sprites_nature.heart,
    "tree": sprites_nature.tree,
    "cat": sprites_nature.cat,
    "house": sprites_things.house,
    "moon": sprites_nature.moon,
    "butterfly": sprites_nature.butterfly,
    "flower": sprites_nature.flower,
    "umbrella": sprites_things.umbrella,
}


@lru_cache(maxsize=4)
def atlas(size: int, device: torch.device) -> Float[Tensor, "s l 5 t t"]:
    """All drawings for frames of `size` pixels: subjects in table order, softness levels small to large."""
    radii = torch.logspace(0, 1, LEVELS, base=LARGEST / SMALLEST, device=device) * SMALLEST
    soft = 1.0 / (radii * size / 2)
    texels = size * 3 // 2
    sheets = []
    for name in SUBJECTS:
        board = Board(texels, soft)
        DRAWINGS[name](board)
        sheets.append(board.drawing())
    return torch.stack(sheets)


def level_of(radius: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The softness level whose drawing suits a sprite of this radius (half frame widths)."""
    span = torch.log(torch.tensor(LARGEST / SMALLEST, device=radius.device))
    place = torch.log(radius / SMALLEST) / span * (LEVELS - 1)
    return place.round().long().clamp(0, LEVELS - 1)
