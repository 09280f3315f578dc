"""Where subjects and camera are at a time of the clip: closed formulas, one row per clip.

Positions are in half frame widths: x from -1 (left) to 1, y from -1 (top) to 1, the frame's middle at 0.
Motion is told against the nearest layer of the scene; the camera then moves all layers, near ones most.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinescribe.world.clip import CAMERAS, MOTIONS, SUBJECTS
from kinescribe.world.palette import constant, uniform

RADII = (0.32, 0.40, 0.48)
"""Half the diameter of a small, medium and large subject, in half frame widths."""
PAIR_SCALE = 0.84
PAN = 0.17
ZOOM = 1.16
DEPTHS = (0.12, 0.40, 0.72, 1.0)
"""How much of the camera's movement each scene layer takes, far to near; subjects take all of it."""

_STANDING = ("boat", "car", "tree", "cat", "house", "flower")
_FLOOR = 0.80


@dataclass(frozen=True)
class Pose:
    """A sprite over time: centre, half width and height, clockwise turn (radians), facing (1 right, -1 left).

    `radius` is the one it has in the middle of the clip.
    """

    x: Float[Tensor, "n f"]
    y: Float[Tensor, "n f"]
    width: Float[Tensor, "n f"]
    height: Float[Tensor, "n f"]
    turn: Float[Tensor, "n f"]
    facing: Float[Tensor, "n 1"]
    radius: Float[Tensor, " n"]


def pose(
    labels: dict[str, Int[Tensor, " n"]], subject: Int[Tensor, " n"], rank: int, t: Float[Tensor, "n f"]
) -> Pose:
    """The pose of the first (`rank` 0) or second (1) subject at clip times `t` in [0, 1], without the camera."""
    seed, motion = labels["seed"][:, None], labels["motion"][:, None]
    paired = (labels["second_subject"] >= 0)[:, None]
    radius = constant(RADII, t.device)[labels["size"]][:, None]
    radius = radius * (1 + 0.06 * (uniform(seed, 11) - 0.5)) * torch.where(paired, PAIR_SCALE, 1.0)
    swelling = _is(motion, "growing") | _is(motion, "shrinking")
    radius = torch.where(swelling, 0.92 * radius, radius)
    dx, dy, scale, stretch, turn = _movement(motion, seed, t, torch.where(paired, 0.80, 1.0))
    x0, y0 = _place(motion, seed, subject[:, None], radius, paired, rank)
    tilt = 0.14 * (uniform(seed, 12 + rank) - 0.5)
    facing = torch.where(uniform(seed, 14 + rank) < 0.5, -1.0, 1.0)
    facing = torch.where(_is(motion, "left"), -1.0, torch.where(_is(motion, "right"), 1.0, facing))
    y = y0 + dy + radius * (1 - stretch)  # a squashed subject stays on its floor
    return Pose(
        x0 + dx, y, radius * scale / stretch, radius * scale * stretch, turn + tilt, facing, radius[:, 0]
    )


def camera(
    labels: dict[str, Int[Tensor, " n"]], t: Float[Tensor, "n f"]
) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n f"]]:
    """Pan (half frame widths, positive to the right) and zoom factor of the nearest layer at times `t`."""
    kind = labels["camera"][:, None]
    ramp = 2 * t - 1
    sign = (kind == CAMERAS.index("pan right")).float() - (kind == CAMERAS.index("pan left")).float()
    growth = (kind == CAMERAS.index("zoom in")).float() - (kind == CAMERAS.index("zoom out")).float()
    return sign * PAN * ramp, torch.exp(math.log(ZOOM) * growth * ramp)


def _is(motion: Tensor, name: str) -> Tensor:
    return motion == MOTIONS.index(name)


def _movement(
    motion: Tensor, seed: Tensor, t: Tensor, room: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Offsets in x and y, scale, vertical stretch and turn of every motion, picked by `motion`.

    `room` shortens the ways of subjects that share the frame.
    """
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    vary, side = uniform(seed, 1), torch.where(uniform(seed, 2) < 0.5, -1.0, 1.0)
    reach = (0.36 + 0.06 * vary) * room
    line = reach * (2 * t - 1)
    dx = line * (_is(motion, "right").float() - _is(motion, "left").float())
    drop = reach * (2 * t**1.35 - 1)
    dy = torch.where(_is(motion, "falling"), drop, torch.where(_is(motion, "rising"), -line, zero))

    hop = (math.pi * (2.5 * t + 0.5)).sin().abs()
    dy = torch.where(_is(motion, "bouncing"), -(0.56 + 0.12 * vary) * hop, dy)
    squash = 1 - 0.16 * torch.exp(-((hop / 0.22) ** 2))
    stretch = torch.where(_is(motion, "bouncing"), squash, one)

    growth = torch.exp((2 * t - 1) * 0.5 * (1.9 + 0.2 * vary).log())
    scale = torch.where(
        _is(motion, "growing"), growth, torch.where(_is(motion, "shrinking"), 1 / growth, one)
    )

    angle = 2 * math.pi * (side * (1.0 + 0.15 * vary) * t + uniform(seed, 3))
    orbit = (0.28 + 0.05 * uniform(seed, 4)) * room
    circling = _is(motion, "circling")
    dx = torch.where(circling, orbit * angle.cos(), dx)
    dy = torch.where(circling, orbit * angle.sin(), dy)

    swing = side * (2 * math.pi * (1.5 + 0.25 * vary) * t).sin()
    swaying = _is(motion, "swaying")
    dx = torch.where(swaying, 0.27 * room * swing, dx)
    dy = torch.where(swaying, -0.05 * swing**2, dy)
    turn = torch.where(_is(motion, "spinning"), side * 2 * math.pi * (0.85 + 0.25 * vary) * t, zero)
    turn = torch.where(swaying, -0.26 * swing, turn)
    return dx.expand_as(t), dy.expand_as(t), scale.expand_as(t), stretch.expand_as(t), turn.expand_as(t)


def _place(
    motion: Tensor, seed: Tensor, subject: Tensor, radius: Tensor, paired: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """The point a subject moves about: on the floor where that suits it, else in the air."""
    side = torch.where(uniform(seed, 5) < 0.5, -1.0, 1.0) * (1 if rank == 0 else -1)
    x_free = 0.24 * (2 * uniform(seed, 6) - 1)
    crossing = _is(motion, "left") | _is(motion, "right") | _is(motion, "swaying") | _is(motion, "circling")
    x = torch.where(crossing, x_free * 0.35, x_free)
    x = torch.where(paired, side * (0.45 + 0.03 * uniform(seed, 7)), x)
    air = -0.10 + 0.20 * (uniform(seed, 8 + rank) - 0.5)
    standing = torch.zeros_like(paired)
    for name in _STANDING:
        standing = standing | (subject == SUBJECTS.index(name))
    lift = torch.where(_is(motion, "growing") | _is(motion, "shrinking"), 1.40, 1.0)
    floor = _FLOOR - radius * lift
    y = torch.where(standing, floor, air)
    vertical = _is(motion, "rising") | _is(motion, "falling")
    y = torch.where(vertical, 0.0 + 0.3 * air, y)
    y = torch.where(_is(motion, "circling"), 0.02 + 0.5 * air, y)
    return x, torch.where(_is(motion, "bouncing"), _FLOOR - radius, y)
