"""Many clips in large batches on one device: the pipeline's own stages without its checks and its batch of four."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinescribe.catalog import ModelSpec
from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch, denoiser
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import Schedule
from kinescribe.models.conditions import Conditioning, join
from kinescribe.perf.presets import SPEEDS, Asked
from kinescribe.pipelines.stages import decode, encode_text

LATENT_CHANNELS = 4


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
            clips += decode(components, _denoised(components, part, making, seeds))
            tell(len(clips))
    return np.stack(clips)


def _denoised(
    components: Components, prompts: Sequence[str], making: Making, seeds: range
) -> Float[Tensor, "b c f h w"]:
    device, factor = components.device, components.vae.config.factor
    shape = (LATENT_CHANNELS, making.frames, making.height // factor, making.width // factor)
    draws = Noise(list(seeds), shape, device=device)
    path = plan(making.sampler, Schedule(components.schedule), making.steps)
    conditions = dict(_conditions(components, prompts, making))

    speed = SPEEDS[making.preset]
    asked = Asked(components, speed, conditions, len(path))

    def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
        times = torch.full((len(x),), t, device=device)
        return asked(x.to(components.dtype), times, conditions[branch])

    prediction = components.schedule.prediction
    denoise = denoiser(predict, prediction, guidance=making.guidance, guided=speed.guided)
    x = path.start * draws.initial()
    for step in sample(making.sampler, denoise, x, path, noise=draws.step):
        x = step.x
        asked.after_step()
    return x


def _conditions(
    components: Components, prompts: Sequence[str], making: Making
) -> Iterator[tuple[Branch, Conditioning]]:
    positive = Conditioning(tokens=encode_text(components, prompts).to(components.dtype))
    yield "positive", positive
    if making.guidance > 1:
        empty = [making.negative_prompt] * len(prompts)
        negative = Conditioning(tokens=encode_text(components, empty).to(components.dtype))
        yield "negative", negative
        yield "both", join(negative, positive)
