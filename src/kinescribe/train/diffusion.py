"""The diffusion stages: networks learn to denoise the cached latents of captioned clips, each kind of model its way."""

import dataclasses
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from kinescribe.diffusion.schedule import Schedule
from kinescribe.train import report
from kinescribe.train.animate import AnimateTask
from kinescribe.train.compiled import compile_blocks
from kinescribe.train.config import AnimateTraining, DiffusionTraining, RefineTraining
from kinescribe.train.data import Drawing, Ring, Scribe
from kinescribe.train.denoising import Batch, Denoising, as_clips
from kinescribe.train.losses import cell_weights, clean_share, clip_weights, diffusion_loss, draw_times
from kinescribe.train.ranks import Ranks
from kinescribe.train.refine import RefineTask
from kinescribe.train.tasks import Pick, Task, TextToVideoTask
from kinescribe.train.vae import HELD_OUT_SEED

VALIDATED_AT_ONCE = 64


class DiffusionStage:
    """Trains `Denoising` on clips of the world against a frozen autoencoder; see `loop.Stage`."""

    def __init__(self, config: DiffusionTraining | AnimateTraining | RefineTraining, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.samples = config.batch
        self.task = _task(config, ranks.device)
        self.schedule = Schedule(config.schedule)
        # On the device, so that a step's levels are looked up without asking the host.
        self.schedule.signal = self.schedule.signal.to(ranks.device)
        self.schedule.noise = self.schedule.noise.to(ranks.device)
        torch.manual_seed(config.run.seed)
        self.model: nn.Module = self.task.networks().to(ranks.device)
        self.empty = self.task.tokenizer([""]).ids.to(ranks.device)
        drawing = Drawing(
            count=config.cache.chunk,
            captions=config.captions,
            context_length=self.task.tokenizer.context_length,
            held_out=False,
        )
        self.scribe = Scribe(drawing, config.run.seed, ranks.rank, config.cache.workers)
        self.ring = Ring(config.cache, self._chunk)
        self.test = self._test_clips(drawing)

    def prepare(self, step: int) -> None:
        """Render and encode new clips when their time has come."""
        self.ring.reach(step)

    def losses(self, model: nn.Module, step: int, generator: Generator) -> dict[str, Tensor]:
        """The weighted error at random noise levels, on clips or, in `image_share` of the steps, on stills."""
        stills = still_step(step, self.config.image_share)
        self.samples = self.config.image_batch if stills else self.config.batch
        batch, figures = self._batch(self.samples, stills, generator)
        loss = self._loss(model, batch, figures, generator)
        return {"loss": loss} | ({"still_loss": loss} if stills else {"clip_loss": loss})

    def compile(self) -> None:
        """Compile the UNet; the other networks are too small to gain."""
        compile_blocks(cast(Denoising, self.model).unet)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        """The plain error at even noise levels on clips of held-out combinations, with the same noise every time.

        "loss" is the mean over all latent cells, "figure" over those that a subject covers, "clean" that of the clean
        estimate; the rest are "loss" at the lower, middle and upper third of the noise levels trained on.
        """
        generator = Generator(self.ranks.device).manual_seed(HELD_OUT_SEED + self.ranks.rank)
        total = self.task.levels
        losses, times, figure, cover = [], [], [], []
        for begin in range(0, self.config.validation_clips, VALIDATED_AT_ONCE):
            rows = slice(begin, begin + VALIDATED_AT_ONCE)
            batch = self._test_batch(rows)
            latents = batch.latents
            t = draw_times(len(latents), total, 1.0, generator)
            eps = torch.randn(latents.shape, generator=generator, device=latents.device)
            eps = self.task.noise(batch, eps, t, generator)
            with torch.autocast(
                self.ranks.device.type, torch.bfloat16, enabled=self.ranks.device.type == "cuda"
            ):
                output = model(self.schedule.corrupt(latents, eps, t), t, batch)
            square = (output.float() - self.schedule.target(latents, eps, t)).square()
            losses.append(square.mean(dim=(1, 2, 3, 4)))
            times.append(t)
            cover.append(self.test["figures"][rows].float().sum())
            figure.append((square.mean(dim=1) * self.test["figures"][rows]).sum())
        error, share = torch.cat(losses), torch.cat(times) / total
        figures = {
            "loss": error.mean(),
            "clean": (error * clean_share(self.schedule, torch.cat(times))).mean(),
            "figure": torch.stack(figure).sum() / torch.stack(cover).sum().clamp(min=1),
        }
        for third, name in enumerate(("low_noise", "middle_noise", "high_noise")):
            within = ((3 * share).long() == third).float()
            figures[name] = (error * within).sum() / within.sum().clamp(min=1)
        return figures

    @torch.no_grad()
    def show(self, model: nn.Module, picture: Path) -> None:
        """Write what the model makes as a sheet, one row a clip."""
        clips = self.task.shown(cast(Denoising, model), self.test)
        if clips is not None:
            report.write_samples(clips, picture)

    def export(self, model: nn.Module, folder: Path) -> None:
        """The whole model as a native folder, in fp16."""
        self.task.export(cast(Denoising, model), folder)

    def close(self) -> None:
        """End the workers."""
        self.scribe.close()

    def _loss(
        self, model: nn.Module, batch: Batch, figures: UInt8[Tensor, "b f h w"] | None, generator: Generator
    ) -> Float[Tensor, ""]:
        noise = self.config.noise
        cells = None if figures is None else cell_weights(figures, noise.foreground)
        t = draw_times(len(batch.ids), self.task.levels, noise.shift, generator)
        eps = torch.randn(batch.latents.shape, generator=generator, device=t.device)
        eps = self.task.noise(batch, eps, t, generator)
        output = model(self.schedule.corrupt(batch.latents, eps, t), t, batch)
        target = self.schedule.target(batch.latents, eps, t)
        return diffusion_loss(output, target, clip_weights(self.schedule, t, noise.weighting), cells)

    def _batch(
        self, n: int, stills: bool, generator: Generator
    ) -> tuple[Batch, UInt8[Tensor, "b f h w"] | None]:
        """Random clips, or single frames of them, and where their figures are if those weigh more."""
        device = generator.device
        rows = self.ring.rows(n, generator)
        choice = torch.randint(self.config.captions, (n,), generator=generator, device=device)
        frame = torch.randint(self.config.cache.frames, (n,), generator=generator, device=device)
        dropped = torch.rand(n, 1, generator=generator, device=device)

        def pick(name: str) -> Tensor:
            return self.ring[name][rows, frame][:, None] if stills else self.ring[name][rows]

        words = self.ring["ids"][rows, choice].long()
        ids = torch.where(dropped < self.config.condition_dropout, self.empty, words)
        batch = self._told(pick, ids, dropped[:, 0])
        return batch, pick("figures") if self.config.noise.foreground > 1 else None

    def _test_batch(self, rows: slice) -> Batch:
        """Held-out clips with their first caption, nothing left out."""
        ids = self.test["ids"][rows, 0].long()
        return self._told(lambda name: self.test[name][rows], ids, torch.ones(len(ids), device=ids.device))

    def _told(self, pick: Pick, ids: Tensor, dropped: Float[Tensor, " b"]) -> Batch:
        latents = as_clips(pick("latents").float())
        return Batch(latents=latents, ids=ids, **self.task.told(pick, dropped))

    def _chunk(self, number: int) -> dict[str, Tensor]:
        figures = self.config.noise.foreground > 1
        return self.task.kept(self.scribe.take(number), number, figures=figures)

    def _test_clips(self, drawing: Drawing) -> dict[str, Tensor]:
        drawing = dataclasses.replace(drawing, count=self.config.validation_clips, held_out=True)
        drawn = Scribe(drawing, HELD_OUT_SEED, self.ranks.rank, 0).take(0)
        return self.task.kept(drawn, HELD_OUT_SEED, figures=True)


def _task(config: DiffusionTraining | AnimateTraining | RefineTraining, device: torch.device) -> Task:
    if isinstance(config, AnimateTraining):
        return AnimateTask(config, device)
    if isinstance(config, RefineTraining):
        return RefineTask(config, device)
    return TextToVideoTask(config, device)


def still_step(step: int, share: float) -> bool:
    """Whether a step trains on stills: `share` of the steps, evenly spread, and the same ones in every process."""
    return int((step + 1) * share) > int(step * share)
