"""The diffusion stage: a UNet and its text tower learn to denoise the cached latents of captioned clips."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor, nn

from kinescribe.diffusion.denoiser import Branch, denoiser
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import Schedule
from kinescribe.models.conditions import Conditioning, join
from kinescribe.models.text import TextEncoder
from kinescribe.models.unet import UNet
from kinescribe.train import report, weights
from kinescribe.train.compiled import compile_in_place
from kinescribe.train.config import DiffusionTraining
from kinescribe.train.data import (
    Drawing,
    Drawn,
    Ring,
    Scribe,
    figure_masks,
    pixels,
    render_clips,
    world_tokenizer,
)
from kinescribe.train.losses import cell_weights, clip_weights, diffusion_loss, draw_times
from kinescribe.train.ranks import Ranks
from kinescribe.train.vae import HELD_OUT_SEED, clip_bytes

ENCODED_AT_ONCE = 512
VALIDATED_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a step trains on: scaled latents, the words, and whatever else a conditional model is told."""

    latents: Float[Tensor, "b c f h w"]
    ids: Int[Tensor, "b n"]
    concat: Float[Tensor, "b k f h w"] | None = None
    embedding: Float[Tensor, "b e"] | None = None
    hidden: Float[Tensor, "b s f h w"] | None = None


class Denoising(nn.Module):
    """UNet and text tower as one call, so that their gradients are averaged over processes together."""

    def __init__(self, unet: UNet, text: TextEncoder) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(
        self, noisy: Float[Tensor, "b c f h w"], t: Int[Tensor, " b"], batch: Batch
    ) -> Float[Tensor, "b c f h w"]:
        """The prediction for `noisy`, which is `batch.latents` at the noise levels of steps `t`."""
        conditioning = Conditioning(
            tokens=self.text(batch.ids), concat=batch.concat, embedding=batch.embedding, hidden=batch.hidden
        )
        # Stills go past the compiled code: a second compilation costs more than it would gain on them.
        unet = self.unet if noisy.shape[2] > 1 else self.unet.forward
        return unet(noisy, t, conditioning)


class DiffusionStage:
    """Trains `Denoising` on clips of the world against a frozen autoencoder; see `loop.Stage`."""

    def __init__(self, config: DiffusionTraining, ranks: Ranks) -> None:
        self.ranks = ranks
        self.tokenizer = world_tokenizer(config.text.context_length)
        text = dataclasses.replace(config.text, vocabulary=self.tokenizer.vocabulary)
        self.config = dataclasses.replace(config, text=text)
        self.samples = config.batch
        self.vae = weights.read_vae(Path(config.vae_from)).to(ranks.device)
        self.vae.eval().requires_grad_(False)
        self.schedule = Schedule(config.schedule)
        # On the device, so that a step's levels are looked up without asking the host.
        self.schedule.signal = self.schedule.signal.to(ranks.device)
        self.schedule.noise = self.schedule.noise.to(ranks.device)
        self.model: nn.Module = self._build().to(ranks.device)
        self.empty = self.tokenizer([""]).ids.to(ranks.device)
        drawing = Drawing(
            count=config.cache.chunk,
            captions=config.captions,
            context_length=text.context_length,
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
        """Compile the UNet; the text tower is too small to gain."""
        compile_in_place(cast(Denoising, self.model).unet)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        """The plain error at even noise levels on clips of held-out combinations, with the same noise every time.

        "loss" is the mean over all latent cells, "figure" over those that a subject covers; the rest are "loss" at the
        lower, middle and upper third of the noise levels.
        """
        generator = Generator(self.ranks.device).manual_seed(HELD_OUT_SEED + self.ranks.rank)
        total = self.config.schedule.train_steps
        losses, times, figure, cover = [], [], [], []
        for begin in range(0, self.config.validation_clips, VALIDATED_AT_ONCE):
            rows = slice(begin, begin + VALIDATED_AT_ONCE)
            latents = as_clips(self.test["latents"][rows].float())
            batch = Batch(latents=latents, ids=self.test["ids"][rows, 0].long())
            t = draw_times(len(latents), total, 1.0, generator)
            eps = torch.randn(latents.shape, generator=generator, device=latents.device)
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
            "figure": torch.stack(figure).sum() / torch.stack(cover).sum().clamp(min=1),
        }
        for third, name in enumerate(("low_noise", "middle_noise", "high_noise")):
            within = ((3 * share).long() == third).float()
            figures[name] = (error * within).sum() / within.sum().clamp(min=1)
        return figures

    @torch.no_grad()
    def show(self, model: nn.Module, picture: Path) -> None:
        """Sample the recipe's prompts with guidance and write them as a sheet, one row a prompt."""
        prompts = self.config.sheet_prompts
        if prompts:
            report.write_samples(self.sample(cast(Denoising, model), prompts), picture)

    @torch.no_grad()
    def sample(self, model: Denoising, prompts: tuple[str, ...]) -> UInt8[np.ndarray, "b f h w 3"]:
        """Clips for the prompts as bytes, with DPM-Solver++ and the recipe's steps and guidance."""
        config, device, n = self.config, self.ranks.device, len(prompts)
        ids = self.tokenizer(list(prompts)).ids.to(device)
        positive = Conditioning(tokens=model.text(ids))
        negative = Conditioning(tokens=model.text(self.empty.expand(n, -1)))
        conditionings = {"positive": positive, "negative": negative, "both": join(negative, positive)}

        def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
            times = torch.full((len(x),), int(t), device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                return model.unet(x, times, conditionings[branch])

        side = config.cache.size // self.vae.config.factor
        draws = Noise(range(n), (config.unet.out_channels, config.cache.frames, side, side), device=device)
        path = plan("dpmpp_2m", Schedule(config.schedule), config.sheet_steps)
        denoise = denoiser(predict, config.schedule.prediction, guidance=config.sheet_guidance)
        x = path.start * draws.initial()
        for step in sample("dpmpp_2m", denoise, x, path, noise=draws.step):
            x = step.x
        frames = rearrange(x, "b c f h w -> (b f) c h w") / self.vae.config.scale
        return clip_bytes(torch.cat([self.vae.decode(part) for part in torch.split(frames, 128)]), n)

    def export(self, model: nn.Module, folder: Path) -> None:
        """UNet, text tower, autoencoder, tokenizer and schedule as a native model folder, in fp16."""
        trained = cast(Denoising, model)
        weights.write_model(
            folder, trained.unet, trained.text, self.vae, self.tokenizer, self.config.schedule
        )

    def close(self) -> None:
        """End the workers."""
        self.scribe.close()

    def _build(self) -> Denoising:
        torch.manual_seed(self.config.run.seed)
        model = Denoising(UNet(self.config.unet), TextEncoder(self.config.text))
        if self.config.init_from is not None:
            weights.read_model(Path(self.config.init_from), model.unet, model.text, self.tokenizer)
        return model

    def _loss(
        self, model: nn.Module, batch: Batch, figures: UInt8[Tensor, "b f h w"] | None, generator: Generator
    ) -> Float[Tensor, ""]:
        noise = self.config.noise
        cells = None if figures is None else cell_weights(figures, noise.foreground)
        t = draw_times(len(batch.ids), self.config.schedule.train_steps, noise.shift, generator)
        eps = torch.randn(batch.latents.shape, generator=generator, device=t.device)
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
        wordless = torch.rand(n, 1, generator=generator, device=device) < self.config.condition_dropout

        def pick(name: str) -> Tensor:
            return self.ring[name][rows, frame][:, None] if stills else self.ring[name][rows]

        ids = torch.where(wordless, self.empty, self.ring["ids"][rows, choice].long())
        batch = Batch(latents=as_clips(pick("latents").float()), ids=ids)
        return batch, pick("figures") if self.config.noise.foreground > 1 else None

    def _chunk(self, number: int) -> dict[str, Tensor]:
        return self._cached(self.scribe.take(number), figures=self.config.noise.foreground > 1)

    def _cached(self, drawn: Drawn, *, figures: bool) -> dict[str, Tensor]:
        """What is kept of clips: latents `n f h w c`, token ids and, if asked for, figure masks `n f h w`."""
        cache, device = self.config.cache, self.ranks.device
        parts = [self._encode(frames) for frames in render_clips(drawn.clips, cache, device)]
        kept = {"latents": torch.cat(parts), "ids": torch.from_numpy(drawn.ids).to(device)}
        if figures:
            side = cache.size // self.vae.config.factor
            kept["figures"] = figure_masks(drawn.clips, cache, device, side=side)
        return kept

    @torch.no_grad()
    def _encode(self, frames: Tensor) -> Float[Tensor, "n f h w c"]:
        """Scaled mean latents in fp16, channels innermost, of clips in bytes `n f h w 3`."""
        n, device = len(frames), self.ranks.device
        parts = []
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            for pictures in torch.split(frames.flatten(0, 1), ENCODED_AT_ONCE):
                parts.append(self.vae.encode(pixels(pictures)).mean.float() * self.vae.config.scale)
        return rearrange(torch.cat(parts), "(n f) c h w -> n f h w c", n=n).half()

    def _test_clips(self, drawing: Drawing) -> dict[str, Tensor]:
        drawing = dataclasses.replace(drawing, count=self.config.validation_clips, held_out=True)
        return self._cached(Scribe(drawing, HELD_OUT_SEED, self.ranks.rank, 0).take(0), figures=True)


def still_step(step: int, share: float) -> bool:
    """Whether a step trains on stills: `share` of the steps, evenly spread, and the same ones in every process."""
    return int((step + 1) * share) > int(step * share)


def as_clips(latents: Float[Tensor, "b f h w c"]) -> Float[Tensor, "b c f h w"]:
    """A view with the models' axes, channels innermost in memory as they like it."""
    return rearrange(latents, "b f h w c -> b c f h w")
