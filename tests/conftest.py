"""Small random models shared by the tests; nothing is trained, the numbers only prove wiring."""

from dataclasses import replace

import pytest
import torch

from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.components import Components
from kinescribe.diffusion.schedule import MODELSCOPE
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig

needs_taps = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9,
    reason="products of taps are for GPUs of compute capability 9",
)


def tiny_spec() -> ModelSpec:
    spec = next(iter(CATALOG.values()))
    defaults = replace(
        spec.defaults,
        frames=3, width=32, height=24, fps=4.0, steps=3, guidance=3.0, sampler="ddim", negative_prompt="",
    )  # fmt: skip
    return replace(spec, name="tiny", defaults=defaults, trained_frames=4, grid=8)


def tiny_components() -> Components:
    """A random model of a few thousand parameters; equal at every call."""
    torch.manual_seed(0)
    keep = sorted(set(Tokenizer.clip().encode("a boat of the two rises")))
    tokenizer = Tokenizer.clip(context_length=12, keep=keep)
    unet = UNet(
        UNetConfig(
            in_channels=4, out_channels=4, width=16, multipliers=(1, 1), blocks_per_level=1,
            attention_levels=(True, False), head_dim=8, stem_heads=2, context_dim=16, groups=8, dropout=0.0,
        )
    )  # fmt: skip
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    vae = AutoencoderKL(
        VAEConfig(
            in_channels=3, latent_channels=4, width=8, multipliers=(1, 1, 1, 1), blocks_per_level=1, groups=4,
            scale=0.5,
        )
    )  # fmt: skip
    text = TextEncoder(
        TextConfig(
            vocabulary=tokenizer.vocabulary, width=16, layers=2, heads=2, mlp_width=32, context_length=12
        )
    )
    networks = {
        name: net.requires_grad_(False).eval() for name, net in (("unet", unet), ("vae", vae), ("text", text))
    }
    return Components(
        **networks,
        tokenizer=tokenizer,
        schedule=MODELSCOPE,
        spec=tiny_spec(),
        source="memory",
        model_hash="0" * 16,
    )  # type: ignore[arg-type]


@pytest.fixture
def components() -> Components:
    return tiny_components()
