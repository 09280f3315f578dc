"""Classifier-free guidance (Ho, Salimans, 2207.12598), its rescale (Lin et al., 2305.08891, 3.4) and its interval."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from kinescribe.diffusion.schedule import Level


class Interval(NamedTuple):
    """The noise levels, as noise / signal, at which guidance counts (Kynkäänniemi et al., 2404.07724)."""

    low: float
    high: float

    def holds(self, level: Level) -> bool:
        """Whether a level lies within, both ends included."""
        return self.low <= level.ratio <= self.high


EVERYWHERE = Interval(0.0, math.inf)


def guide(
    negative: Float[Tensor, "b c f h w"],
    positive: Float[Tensor, "b c f h w"],
    *,
    guidance: float,
    rescale: float,
) -> Float[Tensor, "b c f h w"]:
    """negative + guidance * (positive - negative), then partly given the spread of ``positive``.

    ``rescale`` is phi in [0, 1]: 0 leaves the guided answer as it is, 1 gives every clip of the batch exactly
    the standard deviation that its prompt's own answer had.
    """
    guided = negative + guidance * (positive - negative)
    if rescale == 0:
        return guided
    axes = tuple(range(1, guided.ndim))
    shrink = positive.std(dim=axes, keepdim=True) / (guided.std(dim=axes, keepdim=True) + 1e-12)
    return guided * (rescale * shrink + (1.0 - rescale))
