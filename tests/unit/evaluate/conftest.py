import dataclasses

import pytest
import torch

from kinescribe.catalog import CATALOG
from kinescribe.components import Components
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.train.data import world_tokenizer
from kinescribe.world.judge import Judge
from kinescribe.world.judge_network import JudgeConfig, JudgeNetwork


@pytest.fixture(scope="session")
def tiny_components() -> Components:
    """A few thousand untrained parameters that speak the world's vocabulary and make 4 frames of 32 x 32."""
    torch.manual_seed(0)
    tokenizer = world_tokenizer(48)
    spec = CATALOG["papercut"]
    defaults = dataclasses.replace(spec.defaults, frames=4, width=32, height=32, steps=2)
    unet = UNetConfig(
        in_channels=4, out_channels=4, width=16, multipliers=(1,), blocks_per_level=1, attention_levels=(True,),
        head_dim=8, stem_heads=2, context_dim=16, groups=4, dropout=0.0,
    )  # fmt: skip
    vae = VAEConfig(
        in_channels=3,
        latent_channels=4,
        width=8,
        multipliers=(1, 1, 1, 1),
        blocks_per_level=1,
        groups=4,
        scale=1.0,
    )
    text = TextConfig(
        vocabulary=tokenizer.vocabulary, width=16, layers=1, heads=2, mlp_width=16, context_length=48
    )
    schedule = ScheduleConfig(
        kind="cosine", beta_start=0.0, beta_end=0.0, train_steps=1000, prediction="velocity", zero_terminal_snr=True,
        offset=0, final="clean", spacing="trailing",
    )  # fmt: skip
    networks = (UNet(unet), AutoencoderKL(vae), TextEncoder(text))
    for network in networks:
        network.eval().requires_grad_(False)
    return Components(
        unet=networks[0], vae=networks[1], text=networks[2], tokenizer=tokenizer, schedule=schedule,
        spec=dataclasses.replace(spec, defaults=defaults), source="test", model_hash="0" * 16,
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_judge() -> Judge:
    torch.manual_seed(1)
    sizes = JudgeConfig(size=32, frames=4, widths=(8, 8, 8, 8), groups=4, keypoints=2, codes=2, width=8)
    return Judge(JudgeNetwork(sizes))
