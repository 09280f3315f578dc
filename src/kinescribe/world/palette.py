"""Colours of subjects, skies and ground, and how the hour of the day grades them. Linear mixes of sRGB values."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinescribe.world.clip import scramble

_SPREAD = 0x9E3779B1
RGB = tuple[float, float, float]

BODY: tuple[RGB, ...] = (
    (0.88, 0.13, 0.14),  # red
    (0.98, 0.50, 0.08),  # orange
    (0.99, 0.83, 0.13),  # yellow
    (0.24, 0.62, 0.20),  # green
    (0.08, 0.76, 0.76),  # teal
    (0.12, 0.33, 0.88),  # blue
    (0.52, 0.22, 0.78),  # purple
    (0.99, 0.50, 0.70),  # pink
    (0.94, 0.94, 0.94),  # white
    (0.13, 0.13, 0.15),  # black
)
"""Body colours in the order of `COLOURS`."""

SUBJECT_LIGHT: tuple[RGB, ...] = ((1.0, 1.0, 1.0), (1.02, 0.94, 0.88), (0.90, 0.91, 0.98))
"""What the light of day, sunset and night does to a subject: little, so that colours keep their names."""

GROUND_LIGHT: tuple[RGB, ...] = ((1.0, 1.0, 1.0), (0.88, 0.66, 0.64), (0.32, 0.38, 0.50))
GROUND_GLOW: tuple[RGB, ...] = ((0.0, 0.0, 0.0), (0.10, 0.03, 0.07), (0.02, 0.03, 0.08))

GROUND_WASH: tuple[RGB, ...] = ((1.0, 1.0, 1.0), (0.90, 0.56, 0.62), (0.24, 0.31, 0.58))
"""The tint that ground of any colour drifts towards, by its lightness, when the light fades."""
WASH: tuple[float, ...] = (0.0, 0.12, 0.40)

SKY_TOP: tuple[RGB, ...] = ((0.38, 0.68, 0.92), (0.42, 0.30, 0.58), (0.07, 0.10, 0.26))
SKY_LOW: tuple[RGB, ...] = ((0.84, 0.94, 0.97), (1.00, 0.66, 0.42), (0.22, 0.30, 0.52))
SUN: tuple[RGB, ...] = ((1.00, 0.93, 0.62), (1.00, 0.80, 0.42), (0.97, 0.95, 0.84))
HALO: tuple[RGB, ...] = ((1.0, 1.0, 1.0), (1.0, 0.9, 0.8), (0.52, 0.62, 0.95))
"""The light around a subject; only the night shows it, so that black things stay readable."""
RIM: tuple[RGB, ...] = ((1.0, 1.0, 0.97), (1.0, 0.84, 0.66), (0.62, 0.72, 0.95))


@lru_cache(maxsize=512)
def constant(values: tuple[RGB, ...] | tuple[float, ...], device: torch.device) -> Float[Tensor, "*shape"]:
    """Numbers as a tensor on `device`, copied there once."""
    return torch.tensor(values, device=device)


def table(rows: tuple[RGB, ...], index: Int[Tensor, " n"]) -> Float[Tensor, "n 3 1 1"]:
    """The colours at `index`, ready to be spread over a picture."""
    colours: Tensor = constant(rows, index.device)[index]
    return colours[:, :, None, None]


def uniform(seed: Int[Tensor, "*shape"], salt: int) -> Float[Tensor, "*shape"]:
    """A number in [0, 1) from each seed, another for each `salt`; the same on every device."""
    bits: Tensor = scramble(seed + scramble(salt * _SPREAD)) >> 8
    return bits.float() / 2**24


def uniforms(seed: Int[Tensor, " n"], salts: int) -> Float[Tensor, "n s"]:
    """`uniform` for every salt below `salts` at once."""
    salt = scramble(torch.arange(salts, device=seed.device) * _SPREAD)
    bits: Tensor = scramble(seed[:, None] + salt) >> 8
    return bits.float() / 2**24
