"""Small random models of the two kinds that take something in, and something to put in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import tiny_components
from kinescribe.catalog import CATALOG
from kinescribe.components import Components
from kinescribe.diffusion.schedule import MODELSCOPE
from kinescribe.models.image_conditions import ImageConditions, ImageConditionsConfig
from kinescribe.models.skip_filter import SR600, FourierSkipFilter
from kinescribe.models.unet import UNet
from kinescribe.models.vision import VisionConfig, VisionEncoder


def picture_components(*, first_frame: bool) -> Components:
    """A model like I2VGen-XL (``first_frame``) or ModelScope Image-to-Video; equal at every call."""
    whole = tiny_components()
    row = CATALOG["i2vgen-xl" if first_frame else "modelscope-image-to-video"]
    assert row.picture is not None
    torch.manual_seed(1)
    unet = UNet(replace(whole.unet.config, in_channels=8 if first_frame else 4))
    vision = VisionEncoder(
        VisionConfig(width=16, layers=1, heads=2, mlp_width=16, patch=16, size=32, embedding_width=12)
    )
    conditions = ImageConditions(
        ImageConditionsConfig(
            width=16, image_width=12, context_dim=16, image_tokens=4,
            local_channels=4 if first_frame else 0, local_additions=2 if first_frame else 0,
        )
    )  # fmt: skip
    for network in (unet, vision, conditions):
        network.requires_grad_(False).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    defaults = replace(whole.spec.defaults, guidance=2.0)
    spec = replace(
        row, name="tiny", defaults=defaults, trained_frames=4, picture=replace(row.picture, crop=None)
    )
    return Components(
        unet=unet, vae=whole.vae, vision=vision, conditions=conditions, spec=spec,
        text=whole.text if first_frame else None, tokenizer=whole.tokenizer if first_frame else None,
        schedule=replace(MODELSCOPE, prediction="velocity"), source="memory", model_hash="1" * 16,
    )  # fmt: skip


def refining_components(*, inverted: bool = False) -> Components:
    """A model like ModelScope's second stage or, ``inverted``, SR600: heights are 16 above a multiple of 32."""
    whole = tiny_components()
    row = CATALOG["vgen-sr600" if inverted else "modelscope-video-to-video"]
    config = replace(
        whole.unet.config, multipliers=(1, 1, 1), attention_levels=(True, False, False), row_padding=2
    )
    torch.manual_seed(2)
    unet = UNet(config, FourierSkipFilter(SR600) if inverted else None)
    for parameter in unet.requires_grad_(False).eval().parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    defaults = replace(row.defaults, frames=4, width=32, height=48, steps=3)
    return replace(
        whole,
        unet=unet,
        schedule=replace(MODELSCOPE, prediction="velocity", kind="logsnr_cosine_interpolated"),
        spec=replace(row, name="tiny", defaults=defaults, trained_frames=4, grid=32, row_remainder=16),
    )


@pytest.fixture
def picture() -> np.ndarray:
    """Stripes of colours that say up from down and left from right, 20 high and 30 wide."""
    y, x = np.mgrid[0:20, 0:30]
    return np.stack([y * 12, x * 8, (x + y) * 5], -1).astype(np.uint8)


@pytest.fixture
def clip(picture: np.ndarray) -> np.ndarray:
    """Six frames of the picture on its way to the right, 24 high and 32 wide."""
    wide = np.pad(picture, ((2, 2), (1, 1), (0, 0)), mode="edge")
    return np.stack([np.roll(wide, 3 * i, 1) for i in range(6)])
