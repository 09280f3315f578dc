"""Random networks of the installed peer libraries: the same names, and the same numbers at sizes no fixture has."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from kinescribe.checkpoints.image_rows import image_condition_rows, vision_rows
from kinescribe.checkpoints.keymap import KeyMap, Row, key_map, unet_rows
from kinescribe.checkpoints.modelscope import I2VGEN_XL, UNET, VIT_H
from kinescribe.models.conditions import Conditioning
from kinescribe.models.image_conditions import ImageConditions, with_ramp
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vision import VisionEncoder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

FULL = replace(UNET, in_channels=8)
SMALL = replace(
    FULL, width=32, multipliers=(1, 2), attention_levels=(True, False), head_dim=16, context_dim=24
)
SMALL_CONDITIONS = replace(I2VGEN_XL, width=32, image_width=24, context_dim=24, local_additions=1)
SMALL_VISION = replace(VIT_H, width=48, layers=3, heads=3, mlp_width=80, patch=7, size=35, embedding_width=20)


def peer_unet(config: UNetConfig) -> nn.Module:
    cross = ["CrossAttn" if attention else "" for attention in config.attention_levels]
    network: nn.Module = diffusers.I2VGenXLUNet(
        block_out_channels=config.channels,
        layers_per_block=config.blocks_per_level,
        down_block_types=[f"{kind}DownBlock3D" for kind in cross],
        up_block_types=[f"{kind}UpBlock3D" for kind in reversed(cross)],
        cross_attention_dim=config.context_dim,
        attention_head_dim=config.head_dim,
    )
    return network.eval().requires_grad_(False)


def peer_vision(config: Any) -> nn.Module:
    sizes = transformers.CLIPVisionConfig(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.mlp_width,
        patch_size=config.patch,
        image_size=config.size,
        projection_dim=config.embedding_width,
        hidden_act="gelu",
    )
    network: nn.Module = transformers.CLIPVisionModelWithProjection(sizes)
    return network.eval().requires_grad_(False)


def shaken(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim > 1:
            parameter.data = noise * 0.8 / parameter[0].numel() ** 0.5
        else:
            parameter.data = 0.05 * noise + (1.0 if name.endswith("weight") else 0.0)
    return network


def filled(network: nn.Module, rows: Iterable[Row], peer: nn.Module) -> nn.Module:
    keymap = key_map(network, rows, "diffusers")
    network.load_state_dict(dict(keymap.to_ours(peer.state_dict().__getitem__)))
    return network.eval().requires_grad_(False)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_full_size_names_are_those_of_the_peers() -> None:
    with torch.device("meta"):
        maps: list[KeyMap] = [
            key_map(UNet(FULL), unet_rows(FULL), "diffusers"),
            key_map(ImageConditions(I2VGEN_XL), image_condition_rows(I2VGEN_XL), "diffusers"),
            key_map(VisionEncoder(VIT_H), vision_rows(VIT_H), "diffusers"),
        ]
        unet, vision = peer_unet(FULL), peer_vision(VIT_H)
    assert shapes(unet) == maps[0].foreign_shapes | maps[1].foreign_shapes
    assert shapes(vision) == maps[2].foreign_shapes


@pytest.mark.parametrize(("frames", "h", "w"), [(1, 8, 4), (5, 6, 20), (3, 40, 70)])
def test_i2vgen_xl_agrees_at_any_size(frames: int, h: int, w: int) -> None:
    peer = shaken(peer_unet(SMALL))
    conditions = filled(ImageConditions(SMALL_CONDITIONS), image_condition_rows(SMALL_CONDITIONS), peer)
    x, latents = torch.randn(2, 4, frames, h, w), torch.randn(2, 4, h, w)
    text, image = torch.randn(2, 7, 24), torch.randn(2, 1, 24)
    t, fps = torch.tensor([3, 900]), torch.tensor([8, 16])
    told: Conditioning = conditions(fps=fps, image=image, text=text, latents=latents, frames=frames)
    wanted = peer(
        x, t, fps, image_latents=with_ramp(latents, frames), image_embeddings=image,
        encoder_hidden_states=text,
    ).sample  # fmt: skip
    out = filled(UNet(SMALL), unet_rows(SMALL), peer)(x, t, told)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=2e-5)


def test_image_tower_agrees_with_transformers() -> None:
    peer = shaken(peer_vision(SMALL_VISION))
    tower = filled(VisionEncoder(SMALL_VISION), vision_rows(SMALL_VISION), peer)
    images = torch.randn(2, 3, 35, 35)
    torch.testing.assert_close(tower(images), peer(images).image_embeds, rtol=1e-4, atol=2e-5)
