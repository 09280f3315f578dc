"""The autoencoder stage: stills of the world, squeezed eight times in height and width and rebuilt."""

import dataclasses
import math
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from kinescribe.checkpoints.native import is_native
from kinescribe.errors import DataError
from kinescribe.models.vae import AutoencoderKL, DiagonalGaussian, VAEConfig
from kinescribe.train import report, weights
from kinescribe.train.compiled import compile_in_place
from kinescribe.train.config import VAETraining
from kinescribe.train.data import Drawing, Ring, Scribe, as_bytes, pixels, render_stills
from kinescribe.train.losses import rebuilding_losses
from kinescribe.train.ranks import Ranks

HELD_OUT_SEED = 0x5EED
VALIDATION_STILLS = 512
SHOWN = 8


class Autoencoding(nn.Module):
    """The autoencoder as one call, so that gradients of its two halves are averaged over processes together."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.vae = AutoencoderKL(config)

    def forward(
        self, pictures: Float[Tensor, "n 3 h w"], noise: Float[Tensor, "n c h2 w2"] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The pictures rebuilt from sampled latents, or mean ones without `noise`; the latents' mean and deviation."""
        posterior = self.vae.encode(pictures)
        latents = posterior.mean if noise is None else posterior.sample(noise)
        return self.vae.decode(latents), posterior.mean, posterior.std


class VAEStage:
    """Trains `AutoencoderKL` on stills of the world; see `loop.Stage`."""

    def __init__(self, config: VAETraining, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.samples = config.batch
        self.model: nn.Module = self._build().to(ranks.device)
        count = config.cache.chunk // config.cache.frames
        drawing = Drawing(count=count, captions=0, context_length=0, held_out=False)
        self.scribe = Scribe(drawing, config.run.seed, ranks.rank, config.cache.workers)
        self.ring = Ring(config.cache, self._stills)
        self.test = self._test_stills()

    def prepare(self, step: int) -> None:
        """Renew the pool of stills when its time has come."""
        self.ring.reach(step)

    def losses(self, model: nn.Module, step: int, generator: Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Rebuild a random batch of stills from sampled latents, or from mean ones if the encoder is frozen."""
        pictures = pixels(self.ring["stills"][self.ring.rows(self.config.batch, generator)])
        rebuilt, mean, std = model(pictures, None if self.config.frozen_encoder else self._noise(generator))
        return rebuilding_losses(rebuilt, pictures, DiagonalGaussian(mean, std), self.config.loss)

    def compile(self) -> None:
        """Compile the autoencoder; the moving average stays as it is."""
        compile_in_place(self.model)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        """PSNR in dB of held-out stills, rebuilt from mean latents as use will do, and the latents' deviation."""
        vae = autoencoder(model)
        errors, squares = [], []
        for stills in torch.split(self.test, 64):
            pictures = pixels(stills)
            latents = vae.encode(pictures).mean
            rebuilt = vae.decode(latents).clamp(-1, 1)
            errors.append((rebuilt - pictures).square().mean(dim=(1, 2, 3)) / 4)
            squares.append(latents.square().mean(dim=(1, 2, 3)))
        error, deviation = torch.cat(errors), torch.cat(squares).mean().sqrt()
        return {
            "loss": error.mean(),
            "psnr": -10 * error.mean().log10(),
            "worst_psnr": -10 * error.max().log10(),
            "deviation": deviation,
        }

    @torch.no_grad()
    def show(self, model: nn.Module, picture: Path) -> None:
        """Held-out stills above their rebuilt selves."""
        vae, stills = autoencoder(model), self.test[: 4 * SHOWN]
        rebuilt = as_bytes(vae.decode(vae.encode(pixels(stills)).mean))
        rows = [
            part
            for pair in zip(torch.split(stills, SHOWN), torch.split(rebuilt, SHOWN), strict=True)
            for part in pair
        ]
        report.write_samples(torch.stack(rows).cpu().numpy(), picture)

    def export(self, model: nn.Module, folder: Path) -> None:
        """The autoencoder in fp16, with the scale that brings its latents to unit deviation.

        With a frozen encoder the scale stays, and a whole model in `init_from` is written whole, with the new decoder.
        """
        vae, start = autoencoder(model), self.config.init_from
        if not self.config.frozen_encoder:
            deviation = float(self.validate(model)["deviation"])
            scale = 1.0 if not math.isfinite(deviation) or deviation == 0 else float(f"{1 / deviation:.6g}")
            weights.write_vae(folder, vae, dataclasses.replace(vae.config, scale=scale))
        elif start is not None and is_native(Path(start)):
            weights.write_with_vae(folder, Path(start), vae)
        else:
            weights.write_vae(folder, vae, vae.config)

    def close(self) -> None:
        """End the workers."""
        self.scribe.close()

    def _build(self) -> Autoencoding:
        config = self.config
        torch.manual_seed(config.run.seed)
        if config.init_from is None:
            return Autoencoding(config.vae)
        start = weights.read_vae(Path(config.init_from))
        sizes = dataclasses.replace(config.vae, scale=start.config.scale)
        if start.config != sizes:
            raise DataError(
                f"init_from={config.init_from}: its autoencoder differs from the recipe's ({start.config} against "
                f"{config.vae}): use its sizes in [vae]"
            )
        model = Autoencoding(sizes)
        model.vae.load_state_dict(start.state_dict())
        for part in (model.vae.encoder, model.vae.quantise):
            part.requires_grad_(not config.frozen_encoder)
        return model

    def _noise(self, generator: Generator) -> Float[Tensor, "n c h w"]:
        side = self.config.cache.size // self.config.vae.factor
        shape = (self.config.batch, self.config.vae.latent_channels, side, side)
        return torch.randn(shape, generator=generator, device=generator.device)

    def _stills(self, number: int) -> dict[str, Tensor]:
        clips = self.scribe.take(number).clips
        return {"stills": render_stills(clips, self.config.cache, self.ranks.device, seed=number)}

    def _test_stills(self) -> UInt8[Tensor, "n h w 3"]:
        count = min(VALIDATION_STILLS, self.config.cache.chunk) // self.config.cache.frames
        drawing = Drawing(count=count, captions=0, context_length=0, held_out=True)
        clips = Scribe(drawing, HELD_OUT_SEED, self.ranks.rank, 0).take(0).clips
        return render_stills(clips, self.config.cache, self.ranks.device, seed=HELD_OUT_SEED)


def autoencoder(model: nn.Module) -> AutoencoderKL:
    """The network inside `Autoencoding` or its moving average."""
    return cast(Autoencoding, model).vae
