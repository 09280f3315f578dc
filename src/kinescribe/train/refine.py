"""An enlarged clip to one drawn larger: what the diffusion stage keeps of clips and mixes them with for that.

Refinement starts from the enlarged clip made a little noisy (SDEdit) and walks a solver's straight way to the clean
clip. Were every estimate right, x would be at each step the true clip, noise, and what is left of the difference
between the enlarged clip and the true one, in a known share. So the model is trained on just these: the difference
counts as a part of the noise.
"""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from kinescribe.catalog.papercut import REFINE
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.schedule import Schedule
from kinescribe.diffusion.sdedit import noised, second_stage
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.pipelines.denoise import branches
from kinescribe.train import weights
from kinescribe.train.config import RefineTraining
from kinescribe.train.data import Drawn, figure_masks, render_clips
from kinescribe.train.denoising import Batch, Denoising, as_clips, decoded, encoded, walked
from kinescribe.train.tasks import ENCODED_AT_ONCE, Pick, frozen

LARGE_ENCODED_AT_ONCE = 128
WEAR = 0.1
"""The most noise that latents of worn clips get, so that they err as generated ones do."""
SOFT_SHARE = 0.25
"""So many clips are enlarged by the softer filter, which fits clips by stretching."""
OWN_SHARE, STRAIGHT_SHARE = 0.4, 0.75
"""So many samples are of ways from the recipe's strength, the others from weaker ones; and so many of solvers that add
no noise. Those that do lose the enlarged clip sooner, by any share."""
WEAKEST = 1 / 3
"""The weakest start trained for, as a share of the recipe's strength."""
SHOWN = 4

Filter = Literal["lanczos", "bilinear"]


class RefineTask:
    """The words are told; the difference to the enlarged clip's latents is part of the noise; see `Task`."""

    def __init__(self, config: RefineTraining, device: torch.device) -> None:
        self.config, self.device = config, device
        base = weights.read_whole(Path(config.model_from))
        self.tokenizer, self.text = base.require_text()
        self.small_vae = frozen(base.vae, device)
        self.vae = frozen(weights.read_vae(Path(config.vae_from)), device)
        self.schedule = Schedule(config.schedule)
        self.levels = round(config.strength * config.schedule.train_steps)
        # How much of the difference one part of noise carries where a way begins; finite, whatever the level.
        self.carried = (self.schedule.signal / self.schedule.noise).to(device, torch.float32)

    def networks(self) -> Denoising:
        """The UNet to be trained, and the frozen text tower."""
        model = Denoising(UNet(self.config.unet), self.text)
        if self.config.init_from is not None:
            weights.read_model(Path(self.config.init_from), model, self.tokenizer)
        return model

    def kept(self, drawn: Drawn, seed: int, *, figures: bool) -> dict[str, Tensor]:
        """Latents of the clips drawn large and of the enlarged ones, token ids, and figure masks."""
        config, device, clips = self.config.cache, self.device, drawn.clips
        small = dataclasses.replace(config, size=config.size // 2)
        generator = Generator(device).manual_seed(seed)
        pairs = zip(render_clips(clips, config, device), render_clips(clips, small, device), strict=True)
        latents, enlarged = [], []
        for large, little in pairs:
            latents.append(encoded(self.vae, large, LARGE_ENCODED_AT_ONCE))
            enlarged.append(encoded(self.vae, self._enlarged(little, generator), LARGE_ENCODED_AT_ONCE))
        kept = {"latents": torch.cat(latents), "enlarged": torch.cat(enlarged)}
        kept["ids"] = torch.from_numpy(drawn.ids).to(device)
        if figures:
            side = config.size // self.vae.config.factor
            kept["figures"] = figure_masks(clips, config, device, side=side)
        return kept

    def told(self, pick: Pick, dropped: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """The latents of the enlarged clip, which `noise` needs and the UNet does not see."""
        return {"enlarged": as_clips(pick("enlarged").float())}

    def noise(
        self, batch: Batch, eps: Tensor, t: Int[Tensor, " b"], generator: Generator
    ) -> Float[Tensor, "b c f h w"]:
        """Unit noise and the difference to the enlarged clip, in the share it has at steps `t` of some way."""
        assert batch.enlarged is not None
        n, device, last = len(t), t.device, self.levels - 1
        first = torch.randint(round(WEAKEST * last), last + 1, (n,), generator=generator, device=device)
        kind, left = torch.rand(2, n, generator=generator, device=device)
        begin = torch.where(kind < OWN_SHARE, last, torch.maximum(first, t))
        share = self.carried[begin] * torch.where(kind < STRAIGHT_SHARE, 1.0, left)
        return eps + share.view(-1, 1, 1, 1, 1) * (batch.enlarged - batch.latents)

    def shown(self, model: Denoising, test: dict[str, Tensor]) -> UInt8[np.ndarray, "n f y x 3"]:
        """Held-out clips, each enlarged and, below, refined."""
        config, n = self.config, min(SHOWN, len(test["ids"]))
        start = as_clips(test["enlarged"][:n].float())
        empty = self.tokenizer([""]).ids.to(self.device).expand(n, -1)
        positive = Conditioning(tokens=model.text(test["ids"][:n, 0].long()))
        negative = Conditioning(tokens=model.text(empty))
        _, c, f, h, w = start.shape
        draws = Noise(range(n), (c, f, h, w), device=self.device)
        path = second_stage(
            "dpmpp_2m", self.schedule, config.sheet_steps, strength=config.strength, consistent_start=True
        )
        steps = walked(
            model.unet,
            branches(positive, negative),
            noised(path, start, draws.initial()),
            path,
            draws.step,
            prediction=config.schedule.prediction,
            guidance=config.sheet_guidance,
            levels=self.schedule,
        )
        both = torch.stack([decoded(self.vae, start), decoded(self.vae, steps[-1])], 1)
        return rearrange(both, "n two f y x c -> (n two) f y x c").cpu().numpy()

    def export(self, model: Denoising, folder: Path) -> None:
        """UNet, text tower, the larger autoencoder, tokenizer and schedule, under the catalog's row."""
        assert REFINE.refinement is not None
        refinement = dataclasses.replace(REFINE.refinement, noise_level=self.levels - 1)
        spec = dataclasses.replace(REFINE, refinement=refinement)
        weights.write_model(folder, model, self.vae, self.tokenizer, self.config.schedule, spec)

    def _enlarged(
        self, frames: UInt8[Tensor, "n f y x 3"], generator: Generator
    ) -> UInt8[Tensor, "n f size size 3"]:
        """Small clips, some worn by their autoencoder, at twice their size by one of two filters."""
        device = generator.device
        worn, soft = torch.rand(2, len(frames), generator=generator, device=device)
        rows = worn < self.config.worn_share
        frames = frames.clone()
        frames[rows] = self._worn(frames[rows], generator)
        side = self.config.cache.size
        large = enlarged(frames, side, "lanczos")
        rows = soft < SOFT_SHARE
        large[rows] = enlarged(frames[rows], side, "bilinear")
        return large

    def _worn(self, frames: UInt8[Tensor, "n f y x 3"], generator: Generator) -> UInt8[Tensor, "n f y x 3"]:
        """Clips as the small autoencoder rebuilds them from latents that are a little off."""
        if len(frames) == 0:
            return frames
        latents = as_clips(encoded(self.small_vae, frames, ENCODED_AT_ONCE)).float()
        n, device = len(frames), generator.device
        amount = WEAR * torch.rand(n, 1, 1, 1, 1, generator=generator, device=device)
        off = amount * torch.randn(latents.shape, generator=generator, device=device)
        return decoded(self.small_vae, latents + off)


def enlarged(frames: UInt8[Tensor, "n f y x 3"], side: int, kind: Filter) -> UInt8[Tensor, "n f side side 3"]:
    """Square frames at `side` pixels as PIL's filter makes them, row by row and then column by column."""
    matrix = filter_weights(frames.shape[2], side, kind).to(frames.device)
    large = torch.empty(*frames.shape[:2], side, side, 3, dtype=torch.uint8, device=frames.device)
    for clip, target in zip(frames, large, strict=True):
        planes = rearrange(clip, "f y x c -> f c y x").float()
        wide = (planes @ matrix.T).clamp_(0, 255).round_()
        resized = (matrix @ wide).clamp_(0, 255).round_().to(torch.uint8)
        target.copy_(rearrange(resized, "f c y x -> f y x c"))
    return large


@cache
def filter_weights(old: int, new: int, kind: Filter) -> Float[Tensor, "new old"]:
    """How much of each old pixel along an axis is in each new one."""
    from PIL import Image

    identity = Image.fromarray(np.eye(old, dtype=np.float32))
    resized = identity.resize((old, new), Image.Resampling[kind.upper()])
    return torch.from_numpy(np.array(resized))
