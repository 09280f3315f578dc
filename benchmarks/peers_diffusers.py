"""The side of diffusers: its own classes and its own loop, eager or compiled as its guides say."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.perf.measure import Marks, finish, forget_peak, repeated, timed
from peers_models import GUIDANCE, Case, embeddings, foreign, start
from peers_report import clip_row, decode_row, step_row

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
FPS = 16


def unet(case: Case, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Its UNet for a case, with the numbers that ours has."""
    from diffusers import UNet3DConditionModel
    from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLUNet

    kind = UNet3DConditionModel if case.conditions is None else I2VGenXLUNet
    state = foreign(case.unet, "unet", "diffusers", device, dtype)
    if case.conditions is not None:
        state |= foreign(case.conditions, "conditions", "diffusers", device, dtype)
    with torch.device("meta"):
        empty = kind(**unet_options(case.unet))
    return _filled(empty, state)


def unet_options(config: UNetConfig) -> dict[str, Any]:
    """The sizes of a UNet in its words."""
    cross = ["CrossAttn" if attention else "" for attention in config.attention_levels]
    return {
        "block_out_channels": config.channels,
        "layers_per_block": config.blocks_per_level,
        "down_block_types": [f"{kind}DownBlock3D" for kind in cross],
        "up_block_types": [f"{kind}UpBlock3D" for kind in reversed(cross)],
        "cross_attention_dim": config.context_dim,
        "attention_head_dim": config.head_dim,
        "norm_num_groups": config.groups,
    }


def vae(case: Case, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Its autoencoder, likewise."""
    return _filled(make_vae(case.vae), foreign(case.vae, "vae", "diffusers", device, dtype))


def make_vae(config: VAEConfig) -> nn.Module:
    """Its autoencoder in the sizes of ours, without numbers."""
    from diffusers import AutoencoderKL

    levels = len(config.multipliers)
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=config.channels,
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            layers_per_block=config.blocks_per_level,
            norm_num_groups=config.groups,
            scaling_factor=config.scale,
        )


def pipeline(case: Case, device: torch.device, dtype: torch.dtype) -> Any:
    """Its pipeline from embeddings to frames."""
    from diffusers import DPMSolverMultistepScheduler, TextToVideoSDPipeline

    pipe = TextToVideoSDPipeline(
        vae=vae(case, device, dtype), unet=unet(case, device, dtype), text_encoder=None, tokenizer=None,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def whole(
    case: Case, device: torch.device, dtype: torch.dtype, runs: int, *, compiled: bool
) -> tuple[list[dict[str, Any]], Any]:
    """Rows of a case from embeddings to frames, and the frames of seed 0."""
    pipe, (negative, positive) = pipeline(case, device, dtype), embeddings(device, dtype)
    if compiled:
        torch.set_float32_matmul_precision("high")
        pipe.unet = torch.compile(pipe.unet, mode="reduce-overhead", dynamic=False)
        pipe.vae.decode = torch.compile(pipe.vae.decode, mode="reduce-overhead", dynamic=False)

    def clip(seed: int, marks: Marks) -> np.ndarray:
        marks.mark()
        frames = pipe(
            prompt_embeds=positive, negative_prompt_embeds=negative, num_frames=case.frames, height=case.height,
            width=case.width, num_inference_steps=case.steps, guidance_scale=GUIDANCE,
            latents=start(case, seed).to(device, dtype), callback=lambda *_: marks.mark(),
        ).frames[0]  # fmt: skip
        levels = (np.asarray(frames) * 255).astype(np.uint8)
        marks.mark()
        return levels

    begin = time.perf_counter()
    frames = clip(0, Marks(device))
    finish(device)
    first = time.perf_counter() - begin
    if compiled:
        clip(0, Marks(device))  # the second records its graphs
    forget_peak(device)
    walks = []
    for run in range(runs):
        marks = Marks(device)
        clip(run, marks)
        walks.append(marks.intervals())
    steps = [s for walk in walks for s in walk[1:-1]]
    rows = [clip_row(device, first, [sum(walk) for walk in walks], steps)]
    latents = start(case, 0).to(device, dtype)
    forget_peak(device)
    with torch.no_grad():
        rows.append(decode_row(device, repeated(lambda: decoded(pipe, latents), device, runs=runs)))
    return rows, frames


def decoded(pipe: Any, latents: Tensor) -> np.ndarray:
    """Latents to frames as its pipeline does it."""
    video = pipe.video_processor.postprocess_video(video=pipe.decode_latents(latents), output_type="np")
    return (np.asarray(video[0]) * 255).astype(np.uint8)


def by_step(case: Case, device: torch.device, dtype: torch.dtype, runs: int) -> list[dict[str, Any]]:
    """Rows of a case whose steps alone are timed, and of the decoding of one frame."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    pictured = case.conditions is not None
    pipe, (negative, positive) = pipeline(case, device, dtype), embeddings(device, dtype)
    scheduler = DPMSolverMultistepScheduler(**SCHEDULE)
    if pictured:
        scheduler = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False,
            rescale_betas_zero_snr=True, steps_offset=1, set_alpha_to_one=True,
        )  # fmt: skip
    scheduler.set_timesteps(case.steps, device=device)
    tokens, x = torch.cat([negative, positive]), start(case, 0).to(device, dtype)
    extra = picture(case, x) if pictured else {}

    def step(index: int) -> None:
        nonlocal x
        t = scheduler.timesteps[index]
        both = scheduler.scale_model_input(torch.cat([x] * 2), t)
        out = pipe.unet(both, t, encoder_hidden_states=tokens, return_dict=False, **extra)[0]
        without, told = out.chunk(2)
        x = advanced(scheduler, without + GUIDANCE * (told - without), t, x)

    with torch.no_grad():
        first, _ = timed(_each(step, 0, 2), device)
        forget_peak(device)
        count = min(max(runs, 3), case.steps - 2)
        timed_steps = [timed(_each(step, 2 + i, 1), device)[0] for i in range(count)]
        rows = [step_row(device, first, timed_steps)]
        latents = start(case, 0)[:, :, :1].to(device, dtype)
        forget_peak(device)
        rows.append(decode_row(device, repeated(lambda: decoded(pipe, latents), device, runs=runs)))
    return rows


def picture(case: Case, like: Tensor) -> dict[str, Tensor]:
    """What its UNet is told of a picture, of random numbers, for both branches."""
    both = {"device": like.device, "dtype": like.dtype}
    return {
        "fps": torch.tensor([FPS] * 2, device=like.device),
        "image_latents": torch.randn(2, *case.latents, **both),
        "image_embeddings": torch.randn(2, 1024, **both),
    }


def advanced(scheduler: Any, noise: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """One step of a scheduler on a clip, folded to pictures and back as its pipelines do."""
    b, c, f, h, w = x.shape
    noise, flat = (y.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w) for y in (noise, x))
    flat = scheduler.step(noise, t, flat).prev_sample
    return flat[None, :].reshape(b, f, c, h, w).permute(0, 2, 1, 3, 4)


def _each(step: Callable[[int], None], first: int, count: int) -> Callable[[], None]:
    def work() -> None:
        for index in range(first, first + count):
            step(index)

    return work


def _filled(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()
