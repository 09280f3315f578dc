"""Many clips in large batches on one device: the pipeline's own stages without its checks and its batch of four."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinescribe.catalog import ModelSpec
from kinescribe.components import Components
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.models.conditions import Conditioning
from kinescribe.perf.presets import SPEEDS
from kinescribe.pipelines.denoise import LATENT_CHANNELS, Conditions, Walk, branches, denoise
from kinescribe.pipelines.stages import decode, encode_text


@dataclass(frozen=True, kw_only=True)
class Making:
    """How clips are made: as a request's resolved fields, and `batch` clips at a time.

    A preset in 8 bits is carried out on any device: the same numbers, without the speed where there is no unit for it.
    """

    steps: int
    guidance: float
    sampler: str
    frames: int
    width: int
    height: int
    negative_prompt: str
    batch: int
    preset: str | None = None

    @classmethod
    def of(cls, spec: ModelSpec, *, batch: int) -> "Making":
        """The defaults of a model."""
        fields = dataclasses.asdict(spec.defaults)
        return cls(batch=batch, **{name: value for name, value in fields.items() if name != "fps"})


def generate(
    components: Components,
    prompts: Sequence[str],
    making: Making,
    *,
    seed: int,
    tell: Callable[[int], None],
) -> UInt8[np.ndarray, "n f h w 3"]:
    """A clip of each prompt; clip i has the noise of `seed + i`, so it does not depend on the batch.

    `tell` hears the number of finished clips after each batch.
    """
    clips: list[np.ndarray] = []
    with torch.inference_mode():
        for begin in range(0, len(prompts), making.batch):
            part = prompts[begin : begin + making.batch]
            seeds = range(seed + begin, seed + begin + len(part))
            conditions = _conditions(components, part, making)
            clips += decode(components, walked(components, conditions, making, seeds))
            tell(len(clips))
    return np.stack(clips)


def walked(
    components: Components, conditions: Conditions, making: Making, seeds: range
) -> Float[Tensor, "b c f h w"]:
    """Clips as latents, from noise to the end of the path; a seed for each."""
    factor = components.vae.config.factor
    shape = (LATENT_CHANNELS, making.frames, making.height // factor, making.width // factor)
    draws = Noise(list(seeds), shape, device=components.device)
    walk = Walk(
        path=plan(making.sampler, Schedule(components.schedule), making.steps),
        sampler=making.sampler,
        noise=draws.step,
        guidance=making.guidance,
        speed=SPEEDS[making.preset],
    )
    *_, last = denoise(components, walk.path.start * draws.initial(), conditions, walk)
    return last.latents


def _conditions(components: Components, prompts: Sequence[str], making: Making) -> Conditions:
    positive = _tokens(components, prompts)
    if making.guidance <= 1:
        return branches(positive, None)
    return branches(positive, _tokens(components, [making.negative_prompt] * len(prompts)))


def _tokens(components: Components, prompts: Sequence[str]) -> Conditioning:
    return Conditioning(tokens=encode_text(components, prompts).to(components.dtype))
