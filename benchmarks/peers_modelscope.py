"""The side of ModelScope: the files of its models, loaded from its wheel without installing it, and its own loop.

Its package needs libraries of many other tasks and does not run with those of today; the four files used here need
none of them. xformers' attention is replaced by torch's, which computes the same, and fairscale's checkpoints, which
only training has a use for, by nothing.
"""

import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.models.vae import VAEConfig
from kinescribe.perf.measure import Marks, forget_peak, timed, walked
from peers_models import GUIDANCE, Case, embeddings, foreign, start
from peers_report import clip_row, step_row

TEXT_TO_VIDEO = "modelscope/models/multi_modal/video_synthesis"
VIDEO_TO_VIDEO = "modelscope/models/multi_modal/video_to_video/modules"


def module(source: Path, path: str) -> ModuleType:
    """One of its files as a module, from a wheel or from a folder that one was unpacked into."""
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            folder = Path(tempfile.mkdtemp())
            wheel.extract(path, folder)
    else:
        folder = source
    spec = importlib.util.spec_from_file_location(Path(path).stem, folder / path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, stand_ins()):
        spec.loader.exec_module(loaded)
    return loaded


def stand_ins() -> dict[str, ModuleType]:
    """What its files import and do not need."""
    names = (
        "xformers",
        "xformers.ops",
        "fairscale",
        "fairscale.nn",
        "fairscale.nn.checkpoint",
        "rotary_embedding_torch",
    )
    made = {name: ModuleType(name) for name in names}
    made["xformers"].ops = made["xformers.ops"]  # type: ignore[attr-defined]
    made["xformers.ops"].memory_efficient_attention = attention  # type: ignore[attr-defined]
    made["fairscale.nn.checkpoint"].checkpoint_wrapper = lambda network, **_: network  # type: ignore[attr-defined]
    made["rotary_embedding_torch"].RotaryEmbedding = nn.Identity  # type: ignore[attr-defined]
    return made


def attention(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """xformers' call, ``(b heads) n d``, through torch's own kernels."""
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]


def whole(case: Case, device: torch.device, runs: int, source: Path) -> list[dict[str, Any]]:
    """The row of a case from embeddings to frames: numbers in float32, computed in half precision by autocast."""
    diffusion = module(source, f"{TEXT_TO_VIDEO}/diffusion.py")
    unet, autoencoder = unet_of(case, device, source), autoencoder_of(case.vae, device, source)
    betas = diffusion.beta_schedule("linear_sd", 1000, init_beta=0.00085, last_beta=0.0120)
    process = diffusion.GaussianDiffusion(
        betas=betas, mean_type="eps", var_type="fixed_small", loss_type="mse", rescale_timesteps=False
    )
    negative, positive = embeddings(device, torch.float32)

    def clip(seed: int) -> tuple[float, ...]:
        marks = Marks(device)
        step = process.ddim_sample

        def marked(*args: Any, **options: Any) -> Any:
            result = step(*args, **options)
            marks.mark()
            return result

        marks.mark()
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=device.type == "cuda"),
            patch.object(process, "ddim_sample", marked),
        ):
            x = process.ddim_sample_loop(
                noise=start(case, seed).to(device), model=unet, model_kwargs=[{"y": positive}, {"y": negative}],
                guide_scale=GUIDANCE, ddim_timesteps=case.steps, eta=0.0,
            )  # fmt: skip
            images = autoencoder.decode(rearrange(1.0 / 0.18215 * x, "b c f h w -> (b f) c h w"))
        to_frames(images)
        marks.mark()
        return marks.intervals()

    first, _ = timed(lambda: clip(0), device)
    forget_peak(device)
    walks = [clip(run) for run in range(runs)]
    steps = [s for walk in walks for s in walk[1:-1]]
    return [clip_row(device, first, [sum(walk) for walk in walks], steps)]


def to_frames(images: Tensor) -> list[np.ndarray]:
    """Its way from the autoencoder's output to frames, after the copy to the host."""
    video = images.type(torch.float32).cpu().mul_(0.5).add_(0.5).clamp_(0, 1)
    return [
        (image.numpy() * 255).astype("uint8") for image in rearrange(video, "f c h w -> f h w c").unbind(0)
    ]


def by_step(
    case: Case, device: torch.device, dtype: torch.dtype, runs: int, source: Path
) -> list[dict[str, Any]]:
    """The row of a case of its second stage: both passes of guidance of one step, without its solver."""
    made = module(source, f"{VIDEO_TO_VIDEO}/unet_v2v.py")
    with torch.device(device):
        unet = made.Vid2VidSDUNet(
            dim=case.unet.width, head_dim=case.unet.head_dim, dim_mult=list(case.unet.multipliers)
        )
    unet.load_state_dict(foreign(case.unet, "unet", "modelscope", device, torch.float32))
    unet = unet.eval().requires_grad_(False).to(dtype)
    x, t = start(case, 0).to(device), torch.full((1,), 500, device=device)
    told = [y.float() for y in embeddings(device, dtype)]

    def step() -> Tensor:
        negative, positive = (unet(x, t=t, y=y) for y in told)
        return negative + GUIDANCE * (positive - negative)

    with torch.no_grad(), torch.autocast(device.type, enabled=device.type == "cuda"):
        first, _ = timed(lambda: [step() for _ in range(2)], device)
        forget_peak(device)
        walk = walked((step() for _ in range(runs)), device)
    return [step_row(device, first, walk.intervals)]


def unet_of(case: Case, device: torch.device, source: Path) -> nn.Module:
    """Its UNet with the numbers that ours has."""
    config, made = case.unet, module(source, f"{TEXT_TO_VIDEO}/unet_sd.py")
    scales = [0.5**level for level, attention in enumerate(config.attention_levels) if attention]
    with torch.device(device):
        unet = made.UNetSD(
            in_dim=4, dim=config.width, y_dim=768, context_dim=config.context_dim, out_dim=4,
            dim_mult=list(config.multipliers), num_heads=config.stem_heads, head_dim=config.head_dim,
            num_res_blocks=config.blocks_per_level, attn_scales=scales, dropout=0.1, temporal_attention=True,
        )  # fmt: skip
    unet.load_state_dict(foreign(config, "unet", "modelscope", device, torch.float32))
    return unet.eval()


def autoencoder_of(config: VAEConfig, device: torch.device, source: Path) -> nn.Module:
    """Its autoencoder, likewise."""
    made = module(source, f"{TEXT_TO_VIDEO}/autoencoder.py")
    sizes = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": config.width,
        "ch_mult": list(config.multipliers), "num_res_blocks": config.blocks_per_level, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    with torch.device(device):
        autoencoder = made.AutoencoderKL(sizes, 4)
    autoencoder.load_state_dict(foreign(config, "vae", "modelscope", device, torch.float32))
    return autoencoder.eval()
