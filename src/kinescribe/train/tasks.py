"""What each kind of model adds to the diffusion stage: text to video here, the others in files of their own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from kinescribe.catalog import CATALOG
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.models.conditions import Conditioning
from kinescribe.models.text import TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.pipelines.denoise import branches
from kinescribe.train import weights
from kinescribe.train.config import DiffusionTraining
from kinescribe.train.data import Drawn, figure_masks, render_clips, world_tokenizer
from kinescribe.train.denoising import Batch, Denoising, decoded, encoded, walked

ENCODED_AT_ONCE = 512

Pick = Callable[[str], Tensor]
"""The rows of what is kept that a batch is made of, by name."""


@runtime_checkable
class Task(Protocol):
    """One kind of model: its networks, what is kept of clips, and what a step is told beside latents and words.

    `levels` counts the noise levels trained on, the cleanest ones.
    """

    vae: AutoencoderKL
    tokenizer: Tokenizer
    levels: int

    def networks(self) -> Denoising:
        """The networks to be trained, and the frozen ones that they need at every step."""

    def kept(self, drawn: Drawn, seed: int, *, figures: bool) -> dict[str, Tensor]:
        """What is kept of clips: "latents" `n f h w c`, "ids" and, if asked for, "figures" `n f h w` among it."""

    def told(self, pick: Pick, dropped: Float[Tensor, " b"]) -> dict[str, Any]:
        """The further fields of a `Batch`; where `dropped`, uniform in [0, 1), is low enough they are left out."""

    def noise(
        self, batch: Batch, eps: Tensor, t: Int[Tensor, " b"], generator: Generator
    ) -> Float[Tensor, "b c f h w"]:
        """What the clips of a batch are mixed with at steps `t`, made of unit noise `eps`."""

    def shown(self, model: Denoising, test: dict[str, Tensor]) -> UInt8[np.ndarray, "n f y x 3"] | None:
        """Clips for the sheet; None where there is nothing to show. `test` is what is kept of held-out clips."""

    def export(self, model: Denoising, folder: Path) -> None:
        """Write the whole model as a native folder, in fp16."""


class TextToVideoTask:
    """Text to video: nothing is told but the words; see `Task`."""

    def __init__(self, config: DiffusionTraining, device: torch.device) -> None:
        self.device = device
        self.tokenizer = world_tokenizer(config.text.context_length)
        text = dataclasses.replace(config.text, vocabulary=self.tokenizer.vocabulary)
        self.config = dataclasses.replace(config, text=text)
        self.vae = frozen(weights.read_vae(Path(config.vae_from)), device)
        self.levels = config.schedule.train_steps

    def networks(self) -> Denoising:
        """UNet and text tower."""
        model = Denoising(UNet(self.config.unet), TextEncoder(self.config.text))
        if self.config.init_from is not None:
            weights.read_model(Path(self.config.init_from), model, self.tokenizer)
        return model

    def kept(self, drawn: Drawn, seed: int, *, figures: bool) -> dict[str, Tensor]:  # noqa: ARG002
        """Latents, token ids and figure masks."""
        cache, device = self.config.cache, self.device
        parts = [
            encoded(self.vae, frames, ENCODED_AT_ONCE) for frames in render_clips(drawn.clips, cache, device)
        ]
        kept = {"latents": torch.cat(parts), "ids": torch.from_numpy(drawn.ids).to(device)}
        if figures:
            side = cache.size // self.vae.config.factor
            kept["figures"] = figure_masks(drawn.clips, cache, device, side=side)
        return kept

    def told(self, pick: Pick, dropped: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Nothing."""
        return {}

    def noise(self, batch: Batch, eps: Tensor, t: Tensor, generator: Generator) -> Tensor:  # noqa: ARG002
        """The noise as it is."""
        return eps

    def shown(self, model: Denoising, test: dict[str, Tensor]) -> UInt8[np.ndarray, "n f y x 3"] | None:  # noqa: ARG002
        """Clips of the recipe's prompts, with guidance."""
        config, n = self.config, len(self.config.sheet_prompts)
        if n == 0:
            return None
        ids = self.tokenizer([*config.sheet_prompts, *[""] * n]).ids.to(self.device)
        positive, negative = (Conditioning(tokens=model.text(part)) for part in ids.chunk(2))
        side = config.cache.size // self.vae.config.factor
        draws = Noise(
            range(n), (config.unet.out_channels, config.cache.frames, side, side), device=self.device
        )
        path = plan("dpmpp_2m", Schedule(config.schedule), config.sheet_steps)
        steps = walked(
            model.unet,
            branches(positive, negative),
            path.start * draws.initial(),
            path,
            draws.step,
            prediction=config.schedule.prediction,
            guidance=config.sheet_guidance,
        )
        return decoded(self.vae, steps[-1]).cpu().numpy()

    def export(self, model: Denoising, folder: Path) -> None:
        """UNet, text tower, autoencoder, tokenizer and schedule."""
        spec = CATALOG["papercut"]
        weights.write_model(folder, model, self.vae, self.tokenizer, self.config.schedule, spec)


def frozen(vae: AutoencoderKL, device: torch.device) -> AutoencoderKL:
    """The autoencoder on a device, for use alone."""
    return vae.to(device).eval().requires_grad_(False)
