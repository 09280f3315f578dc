"""What a training step of the diffusion stages calls: the trained networks as one module, and what they are shown."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from kinescribe.diffusion.denoiser import Branch, at_trained_levels, denoiser
from kinescribe.diffusion.samplers import StepNoise, sample
from kinescribe.diffusion.schedule import Prediction, Schedule
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.media.crop import DEVIATION, MEAN
from kinescribe.models.conditions import Conditioning
from kinescribe.models.image_conditions import ImageConditions
from kinescribe.models.text import TextEncoder
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.models.vision import VisionEncoder
from kinescribe.train.data import as_bytes, pixels

DECODED_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a step trains on: scaled latents, the words, and whatever else a conditional model is told.

    A model that continues a still is told its bytes, whether it is shown them, and the frame rate; the still's
    latents are those of the first frame. One that refines has the latents of the enlarged clip.
    """

    latents: Float[Tensor, "b c f h w"]
    ids: Int[Tensor, "b n"]
    still: UInt8[Tensor, "b y x 3"] | None = None
    shown: Bool[Tensor, " b"] | None = None
    fps: Float[Tensor, " b"] | None = None
    enlarged: Float[Tensor, "b c f h w"] | None = None


class Denoising(nn.Module):
    """All trained networks as one call, so that their gradients are averaged over processes together."""

    def __init__(
        self,
        unet: UNet,
        text: TextEncoder,
        conditions: ImageConditions | None = None,
        vision: VisionEncoder | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.text, self.conditions, self.vision = unet, text, conditions, vision

    def forward(
        self, noisy: Float[Tensor, "b c f h w"], t: Int[Tensor, " b"], batch: Batch
    ) -> Float[Tensor, "b c f h w"]:
        """The prediction for `noisy`, which is `batch.latents` at the noise levels of steps `t`."""
        conditioning = self.told(batch)
        if noisy.shape[2] > 1:
            return self.unet(noisy, t, conditioning)
        # A second compilation costs more than it would gain on stills.
        with torch.compiler.set_stance("force_eager"):
            return self.unet(noisy, t, conditioning)

    def told(self, batch: Batch) -> Conditioning:
        """What the UNet is told of a batch besides the noisy clips."""
        text = self.text(batch.ids)
        if self.conditions is None or self.vision is None:
            return Conditioning(tokens=text)
        assert batch.still is not None and batch.shown is not None and batch.fps is not None
        image = self.vision(vision_pixels(batch.still)) * batch.shown[:, None]
        latents, frames = batch.latents[:, :, 0], batch.latents.shape[2]
        told: Conditioning = self.conditions(
            fps=batch.fps, image=image[:, None], text=text, latents=latents, frames=frames
        )
        return told


def vision_pixels(stills: UInt8[Tensor, "b y x 3"]) -> Float[Tensor, "b 3 y x"]:
    """Stills of the image tower's own size as it takes them, see `media.crop.clip_pixels`."""
    mean, deviation = (torch.from_numpy(row).to(stills.device)[:, None, None] for row in (MEAN, DEVIATION))
    return (rearrange(stills, "b y x c -> b c y x").float() / 255 - mean) / deviation


def as_clips(latents: Float[Tensor, "b f h w c"]) -> Float[Tensor, "b c f h w"]:
    """A view with the models' axes, channels innermost in memory as they like it."""
    return rearrange(latents, "b f h w c -> b c f h w")


@torch.no_grad()
def encoded(
    vae: AutoencoderKL, frames: UInt8[Tensor, "n f y x 3"], at_once: int
) -> Float[Tensor, "n f h w c"]:
    """Scaled mean latents in fp16, channels innermost, of clips in bytes, `at_once` pictures at a time."""
    n, device = len(frames), frames.device
    parts = []
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for pictures in torch.split(frames.flatten(0, 1), at_once):
            parts.append(vae.encode(pixels(pictures)).mean.float() * vae.config.scale)
    return rearrange(torch.cat(parts), "(n f) c h w -> n f h w c", n=n).half()


@torch.no_grad()
def decoded(vae: AutoencoderKL, latents: Float[Tensor, "b c f h w"]) -> UInt8[Tensor, "b f y x 3"]:
    """Clips in bytes from scaled latents."""
    pictures = rearrange(latents, "b c f h w -> (b f) c h w") / vae.config.scale
    parts = [as_bytes(vae.decode(part)) for part in torch.split(pictures, DECODED_AT_ONCE)]
    return rearrange(torch.cat(parts), "(b f) y x c -> b f y x c", b=len(latents))


@torch.no_grad()
def walked(
    unet: UNet,
    conditions: Mapping[Branch, Conditioning],
    x: Float[Tensor, "b c f h w"],
    path: Trajectory,
    noise: StepNoise,
    *,
    prediction: Prediction,
    guidance: float,
    sampler: str = "dpmpp_2m",
    levels: Schedule | None = None,
) -> list[Float[Tensor, "b c f h w"]]:
    """Where each step of a sampler leads from `x`, the start of `path`; `levels` as in `denoiser.at_trained_levels`."""
    device = x.device

    def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
        times = torch.full((len(x),), int(t), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return unet(x, times, conditions[branch])

    denoise = denoiser(predict, prediction, guidance=guidance)
    if levels is not None:
        denoise = at_trained_levels(denoise, levels)
    return [step.x for step in sample(sampler, denoise, x, path, noise=noise)]
