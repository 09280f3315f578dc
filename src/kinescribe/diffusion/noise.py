"""Random numbers by seed: drawn in float32 on the CPU, one generator per video, then cast and moved.

A clip so depends on its seed alone: not on the device, the dtype, its neighbours in the batch, nor on how a
job was split over machines.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import SeedSequence
from torch import Generator, Tensor

from kinescribe.errors import OptionError

LARGEST_SEED = 2**63 - 1


def seeds_from(seed: int, count: int) -> list[int]:
    """The seeds of ``count`` videos of one request: video ``i`` uses ``seed + i``."""
    last = LARGEST_SEED - max(count - 1, 0)
    if not 0 <= seed <= last:
        raise OptionError(f"seed={seed}: {count} clips need a whole number from 0 to {last}")
    return [seed + i for i in range(count)]


def frame_seeds(seed: int, frames: int) -> list[int]:
    """A seed for each frame of one video; frame ``i`` has the same one however many there are."""
    places = (SeedSequence(entropy=seed, spawn_key=(i,)) for i in range(frames))
    return [int(place.generate_state(1, np.uint64)[0] >> np.uint64(1)) for place in places]


class Noise:
    """The draws of one batch: ``initial()`` first, then ``step(index)`` once for every step that asks.

    Every video's numbers come from its own generator in the order of the calls, so they are the numbers that
    ``torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))`` gives, call after call. A task
    that encodes pictures draws ``posterior`` before ``initial``, one that walks a Brownian path ``entropy``
    after it. ``offset`` adds to the start one more number per channel and frame, times ``offset`` (0.1 in
    Image-to-Video, whose models were trained so; the start's deviation becomes 1.005).
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int, int, int],
        *,
        offset: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]
        self._shape = shape
        self._offset = offset
        self._device = torch.device(device)

    def initial(self) -> Float[Tensor, "b c f h w"]:
        """The clips of pure noise to start from: unit variance but for the offset."""
        base = self._draw()
        if self._offset == 0:
            return base
        c, f, _, _ = self._shape
        return base + self._offset * self._draw((c, f, 1, 1))

    def posterior(self, pictures: int) -> Float[Tensor, "b n c h w"]:
        """What to sample the latents of ``pictures`` pictures of every video with, drawn one after another."""
        c, _, h, w = self._shape
        return torch.stack([self._draw((c, h, w)) for _ in range(pictures)], dim=1)

    def entropy(self) -> list[int]:
        """A whole number for each video, to grow its Brownian path from."""
        return [_entropy(generator) for generator in self._generators]

    def step(self, index: int) -> Float[Tensor, "b c f h w"]:  # noqa: ARG002 - a Brownian path would need it
        """Fresh unit noise for step ``index``; steps must ask in their order, each at most once."""
        return self._draw()

    def _draw(self, shape: tuple[int, ...] | None = None) -> Tensor:
        size = (1, *(shape or self._shape))
        rows = [torch.randn(size, generator=generator) for generator in self._generators]
        return torch.cat(rows).to(self._device)


class SecondStageNoise:
    """The numbers that the second stage's reference draws on a CPU, from one generator per clip.

    Call ``posterior``, ``initial`` and, for the stochastic solver, ``entropy``, in that order. With a
    generator in the reference's state (there it is torch's global one) these are its numbers; from a seed
    they are not those of ``Noise``, whose start is drawn channel by channel and without a noise level. What
    the reference's Heun draws at each step and does not use is left out.
    """

    def __init__(
        self,
        generators: Sequence[Generator],
        shape: tuple[int, int, int, int],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._generators = list(generators)
        self._shape = shape
        self._device = torch.device(device)

    def posterior(self, pictures: int) -> Float[Tensor, "b n c h w"]:
        """What to sample the latents of every clip's pictures with, drawn one picture after another."""
        c, _, h, w = self._shape
        return self._batch(
            [
                torch.cat([torch.randn((1, c, h, w), generator=g) for _ in range(pictures)])
                for g in self._generators
            ]
        )

    def initial(self) -> Float[Tensor, "b c f h w"]:
        """Unit noise, drawn in the order of frames: so the latents that it is made like lie in memory."""
        c, f, h, w = self._shape
        clips = []
        for generator in self._generators:
            torch.randint(599, 600, (1,), generator=generator)  # the level: drawn, though there is one only
            clips.append(torch.empty(f, c, h, w).transpose(0, 1).normal_(generator=generator))
        return self._batch(clips)

    def entropy(self) -> list[int]:
        """A whole number for each clip, to grow its Brownian path from."""
        return [_entropy(generator) for generator in self._generators]

    def _batch(self, clips: list[Tensor]) -> Tensor:
        return torch.stack(clips).to(self._device)


def _entropy(generator: Generator) -> int:
    return int(torch.randint(0, LARGEST_SEED, (), generator=generator))
