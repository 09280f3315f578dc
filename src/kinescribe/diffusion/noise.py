"""Random numbers by seed: drawn in float32 on the CPU, one generator per video, then cast and moved.

A clip so depends on its seed alone: not on the device, the dtype, its neighbours in the batch, nor on how a
job was split over machines.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from kinescribe.errors import OptionError

LARGEST_SEED = 2**63 - 1


def seeds_from(seed: int, count: int) -> list[int]:
    """The seeds of ``count`` videos of one request: video ``i`` uses ``seed + i``."""
    last = LARGEST_SEED - max(count - 1, 0)
    if not 0 <= seed <= last:
        raise OptionError(f"seed={seed}: {count} clips need a whole number from 0 to {last}")
    return [seed + i for i in range(count)]


class Noise:
    """The draws of one batch: ``initial()`` first, then ``step(index)`` once for every step that asks.

    Every video's numbers come from its own generator in that order, so they are the numbers that
    ``torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))`` gives, call after call.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int, int, int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]
        self._shape = shape
        self._device = torch.device(device)
        self._dtype = dtype

    def initial(self) -> Float[Tensor, "b c f h w"]:
        """The clips of pure noise to start from: unit variance, shape ``(videos, c, f, h, w)``."""
        return self._draw()

    def step(self, index: int) -> Float[Tensor, "b c f h w"]:  # noqa: ARG002 - a Brownian path would need it
        """Fresh unit noise for step ``index``; steps must ask in their order, each at most once."""
        return self._draw()

    def _draw(self) -> Tensor:
        rows = [torch.randn((1, *self._shape), generator=generator) for generator in self._generators]
        return torch.cat(rows).to(device=self._device, dtype=self._dtype)
