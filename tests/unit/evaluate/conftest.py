import dataclasses

import pytest
import torch

from kinescribe.catalog import CATALOG
from kinescribe.catalog.papercut import ANIMATE, REFINE
from kinescribe.components import Components
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.evaluate.conditioned import Refiner
from kinescribe.evaluate.generate import Making
from kinescribe.models.image_conditions import ImageConditions, ImageConditionsConfig
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.models.vision import VisionConfig, VisionEncoder
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
def tiny_animator(tiny_components: Components) -> Components:
    """The same with a picture's conditions and an image tower, all untrained, its conditions made to matter."""
    torch.manual_seed(2)
    unet = UNet(dataclasses.replace(tiny_components.unet.config, in_channels=8))
    conditions = ImageConditions(
        ImageConditionsConfig(
            width=16, image_width=8, context_dim=16, image_tokens=2, local_channels=4, local_additions=1
        )
    )
    vision = VisionEncoder(
        VisionConfig(width=8, layers=1, heads=2, mlp_width=8, patch=8, size=32, embedding_width=8)
    )
    torch.nn.init.normal_(unet.head.weight, std=0.1)
    for network in (unet, conditions, vision):
        network.eval().requires_grad_(False)
    defaults = dataclasses.replace(ANIMATE.defaults, frames=4, width=32, height=32, steps=2)
    return dataclasses.replace(
        tiny_components, unet=unet, conditions=conditions, vision=vision,
        spec=dataclasses.replace(ANIMATE, defaults=defaults),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_refiner(tiny_components: Components) -> Refiner:
    """Untrained models that make 4 frames of 16 x 16 and refine 4 of 32 x 32."""
    torch.manual_seed(3)
    unet = UNet(tiny_components.unet.config)
    torch.nn.init.normal_(unet.head.weight, std=0.1)
    unet.eval().requires_grad_(False)
    sizes = {"frames": 4, "steps": 2}
    large = dataclasses.replace(REFINE.defaults, width=32, height=32, **sizes)
    small = dataclasses.replace(tiny_components.spec.defaults, width=16, height=16, **sizes)
    components = dataclasses.replace(
        tiny_components, unet=unet, spec=dataclasses.replace(REFINE, defaults=large)
    )
    smaller = dataclasses.replace(
        tiny_components, spec=dataclasses.replace(tiny_components.spec, defaults=small)
    )
    return Refiner(components, smaller, Making.of(components.spec, batch=2), strength=0.3, seed=7)


@pytest.fixture(scope="session")
def tiny_judge() -> Judge:
    torch.manual_seed(1)
    sizes = JudgeConfig(size=32, frames=4, widths=(8, 8, 8, 8), groups=4, keypoints=2, codes=2, width=8)
    return Judge(JudgeNetwork(sizes))
