"""A still to a clip that begins with it: what the diffusion stage keeps of clips and tells for that."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from kinescribe.catalog.papercut import ANIMATE
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.models.image_conditions import ImageConditions
from kinescribe.models.unet import UNet
from kinescribe.models.vision import VisionEncoder
from kinescribe.pipelines.denoise import branches
from kinescribe.train import weights
from kinescribe.train.config import AnimateTraining
from kinescribe.train.data import Drawn, Times, figure_masks, render_clips
from kinescribe.train.denoising import Batch, Denoising, as_clips, decoded, encoded, walked
from kinescribe.train.tasks import ENCODED_AT_ONCE, Pick, frozen
from kinescribe.world.clip import Clips

LATEST = 0.35
"""The latest moment at which a whole motion begins; beyond that subjects leave the frame."""
SLOWER = 0.5
"""The share of its motion that a slow clip shows."""
STILL_SHARE = 2 / 3
"""Of the clips without words so many are without picture too, as the negative branch of guidance is."""
SHOWN = 8


class AnimateTask:
    """The words, the still's meaning, its latents and the frame rate are told; see `Task`."""

    def __init__(self, config: AnimateTraining, device: torch.device) -> None:
        self.config, self.device = config, device
        base = weights.read_whole(Path(config.model_from))
        self.vae = frozen(base.vae, device)
        self.tokenizer, self.text = base.require_text()
        self.levels = config.schedule.train_steps
        assert ANIMATE.picture is not None
        self.fps = ANIMATE.picture.condition_fps

    def networks(self) -> Denoising:
        """UNet, conditions and image tower to be trained, and the frozen text tower."""
        config = self.config
        model = Denoising(
            UNet(config.unet), self.text, ImageConditions(config.conditions), VisionEncoder(config.vision)
        )
        if config.init_from is not None:
            weights.read_model(Path(config.init_from), model, self.tokenizer)
        return model

    def kept(self, drawn: Drawn, seed: int, *, figures: bool) -> dict[str, Tensor]:
        """Latents, token ids, the first frame in bytes, the frame rate told, and figure masks."""
        cache, device = self.config.cache, self.device
        times, fps = self._moments(drawn.clips, seed)
        parts = []
        for frames in render_clips(drawn.clips, cache, device, times):
            parts.append((encoded(self.vae, frames, ENCODED_AT_ONCE), frames[:, 0]))
        latents, stills = (torch.cat(column) for column in zip(*parts, strict=True))
        kept = {
            "latents": latents,
            "still": stills,
            "fps": fps,
            "ids": torch.from_numpy(drawn.ids).to(device),
        }
        if figures:
            side = cache.size // self.vae.config.factor
            kept["figures"] = figure_masks(drawn.clips, cache, device, side=side, times=times)
        return kept

    def told(self, pick: Pick, dropped: Float[Tensor, " b"]) -> dict[str, Any]:
        """The still, whether it is shown, and the frame rate."""
        shown = dropped >= STILL_SHARE * self.config.condition_dropout
        return {"still": pick("still"), "fps": pick("fps"), "shown": shown}

    def noise(self, batch: Batch, eps: Tensor, t: Tensor, generator: Generator) -> Tensor:  # noqa: ARG002
        """The noise as it is."""
        return eps

    def shown(self, model: Denoising, test: dict[str, Tensor]) -> UInt8[np.ndarray, "n f y x 3"]:
        """Held-out stills brought to life, with guidance."""
        config, n = self.config, min(SHOWN, len(test["ids"]))
        latents = as_clips(test["latents"][:n].float())
        empty = self.tokenizer([""]).ids.to(self.device).expand(n, -1)
        told = {"latents": latents, "still": test["still"][:n], "fps": test["fps"][:n]}
        seen = torch.ones(n, dtype=torch.bool, device=self.device)
        positive = model.told(Batch(ids=test["ids"][:n, 0].long(), shown=seen, **told))
        negative = model.told(Batch(ids=empty, shown=~seen, **told))
        _, c, f, h, w = latents.shape
        draws = Noise(range(n), (c, f, h, w), device=self.device)
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
        """All networks, tokenizer and schedule, under the catalog's row."""
        weights.write_model(folder, model, self.vae, self.tokenizer, self.config.schedule, ANIMATE)

    def _moments(self, clips: Clips, seed: int) -> tuple[Times, Float[Tensor, " n"]]:
        """When each frame is drawn, and the frame rate that this is told as; a function of clips and seed.

        A clip under a moving camera ends with the camera's way, since the scenes are painted no further.
        """
        config, n = self.config, len(clips)
        draws = torch.rand(3, n, generator=Generator().manual_seed(seed))
        slow, late = draws[0] < config.slow_share, draws[1] < config.late_share
        span = torch.where(slow, SLOWER, 1.0)
        latest = torch.where(slow, 1 - SLOWER, torch.where(torch.from_numpy(clips.camera) == 0, LATEST, 0.0))
        begin = torch.where(late, latest * draws[2], 0.0)
        places = torch.linspace(0, 1, config.cache.frames)
        fps = self.fps / span
        return (begin[:, None] + span[:, None] * places).to(self.device), fps.to(self.device)
