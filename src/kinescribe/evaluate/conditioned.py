"""Clips made of stills and of clips, in large batches on one device: the pipelines' own stages without their checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinescribe.catalog import Refinement
from kinescribe.components import Components
from kinescribe.diffusion.brownian import BrownianNoise
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.schedule import Schedule
from kinescribe.diffusion.sdedit import noised, second_stage
from kinescribe.errors import OptionError
from kinescribe.evaluate.generate import Making, walked
from kinescribe.models.conditions import Conditioning
from kinescribe.pipelines.denoise import Conditions, Walk, branches, denoise
from kinescribe.pipelines.encode import embed_picture, encode, encode_picture, frame_pixels
from kinescribe.pipelines.stages import decode, encode_text

Stills = UInt8[np.ndarray, "n y x 3"]
Frames = UInt8[np.ndarray, "n f y x 3"]


def animated(
    components: Components,
    stills: Stills,
    prompts: Sequence[str],
    making: Making,
    *,
    seed: int,
    tell: Callable[[int], None],
) -> UInt8[np.ndarray, "n f h w 3"]:
    """A clip of each still and prompt; clip i has the noise of `seed + i`, so it does not depend on the batch."""
    clips: list[np.ndarray] = []
    with torch.inference_mode():
        for begin in range(0, len(prompts), making.batch):
            part = slice(begin, begin + making.batch)
            conditions = _conditions(components, stills[part], prompts[part], making)
            seeds = range(seed + begin, seed + begin + len(prompts[part]))
            clips += decode(components, walked(components, conditions, making, seeds))
            tell(len(clips))
    return np.stack(clips)


def _conditions(components: Components, stills: Stills, prompts: Sequence[str], making: Making) -> Conditions:
    picture, conditions, dtype = components.spec.picture, components.conditions, components.dtype
    if picture is None or conditions is None:
        raise OptionError(f"{components.spec.name} makes no clips from pictures: name a model that does")
    size, side = (making.width, making.height), picture.crop or making.width
    seen = [embed_picture(components, still, side, "crop", strict=False) for still in stills]
    begun = [encode_picture(components, still, size, "crop", None, strict=False) for still in stills]
    embedding, latents = torch.cat(seen).to(dtype), torch.cat(begun).to(dtype)
    fps = torch.full((len(stills),), picture.condition_fps, device=components.device)

    def told(texts: Sequence[str], embedding: Tensor) -> Conditioning:
        text = encode_text(components, texts).to(dtype)
        said: Conditioning = conditions(
            fps=fps, image=embedding, text=text, latents=latents, frames=making.frames
        )
        return said

    positive = told(prompts, embedding)
    if making.guidance <= 1:
        return branches(positive, None)
    negative = told([making.negative_prompt] * len(prompts), torch.zeros_like(embedding))
    return branches(positive, negative)


@dataclass(frozen=True)
class Refiner:
    """The refining model, the small one whose clips it enlarges, and how."""

    components: Components
    small: Components
    making: Making
    strength: float
    seed: int

    def __call__(self, enlarged: Frames, prompts: Sequence[str], first: int) -> Frames:
        """Enlarged clips refined; clip i has the noise of `seed + first + i`."""
        components, making = self.components, self.making
        schedule = Schedule(components.schedule)
        with torch.inference_mode():
            latents = torch.stack([latents_of(components, clip) for clip in enlarged])
            seeds = range(self.seed + first, self.seed + first + len(enlarged))
            _, c, f, h, w = latents.shape
            draws = Noise(list(seeds), (c, f, h, w), device=components.device)
            path = second_stage(
                making.sampler,
                schedule,
                making.steps,
                strength=self.strength,
                consistent_start=refinement_of(components).consistent_start,
            )
            x = noised(path, latents, draws.initial())
            noise = BrownianNoise(draws.entropy(), (c, f, h, w), path, device=components.device).step
            walk = Walk(
                path=path,
                sampler=making.sampler,
                noise=noise,
                guidance=making.guidance,
                trained_levels=schedule,
            )
            positive = self._tokens(prompts)
            negative = self._tokens([making.negative_prompt] * len(prompts)) if making.guidance > 1 else None
            *_, last = denoise(components, x, branches(positive, negative), walk)
            return np.stack(decode(components, last.latents))

    def _tokens(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(tokens=encode_text(self.components, prompts).to(self.components.dtype))


def latents_of(components: Components, clip: UInt8[np.ndarray, "f y x 3"]) -> Float[Tensor, "c f h w"]:
    """Scaled mean latents of a clip of its own size."""
    f, height, width, _ = clip.shape

    def pixels(part: slice) -> Tensor:
        return frame_pixels(clip[part], width, height, "crop", strict=False)

    return rearrange(encode(components.vae, pixels, f, (width, height), None), "f c h w -> c f h w")


def refinement_of(components: Components) -> Refinement:
    """How a model refines clips; raises `OptionError` for one that does not."""
    if components.spec.refinement is None:
        raise OptionError(f"{components.spec.name} refines no clips: name a model that does")
    return components.spec.refinement
