"""LoRAs beside diffusers: products added to its own UNet and tower by hand, and the order in which it makes layers."""

from pathlib import Path

import pytest
import torch
from torch import nn

import kinescribe
import lora_files as files
from kinescribe.checkpoints.lora_layers import layers_of
from kinescribe.checkpoints.lora_order import rows_of_layers
from kinescribe.models.conditions import Conditioning
from kinescribe.pipelines.text_to_video import TextToVideoPipeline

pytestmark = pytest.mark.slow
# Rounding of float32 through some hundred layers, measured 2e-6 without a LoRA.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def pipe() -> TextToVideoPipeline:
    return kinescribe.load(files.base(), task="text-to-video", device="cpu", dtype="float32")


@torch.no_grad()
def test_the_unet_with_a_lora_is_that_of_diffusers(pipe: TextToVideoPipeline, tmp_path: Path) -> None:
    from diffusers import UNet3DConditionModel

    torch.manual_seed(0)
    unet = UNet3DConditionModel.from_pretrained(files.base() / "unet").float().eval()
    x, t, tokens = (
        torch.randn(1, 4, 3, 8, 8),
        torch.tensor([500]),
        torch.randn(1, 77, unet.config.cross_attention_dim),
    )
    plain = unet(x, t, tokens).sample
    table = files.factors(lambda name: name.startswith("unet."), size=0.15)
    for name, change in files.products(table, 0.5):
        unet.get_submodule(name.removeprefix("unet.")).weight += change
    expected = unet(x, t, tokens).sample
    pipe.load_lora(files.kohya(tmp_path / "l.safetensors", table), 0.5)
    found = pipe.components.unet(x, t, Conditioning(tokens=tokens))
    pipe.unload_lora()
    assert (expected - plain).abs().max() > 100 * TOLERANCE
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_the_tower_with_a_lora_is_that_of_transformers(pipe: TextToVideoPipeline, tmp_path: Path) -> None:
    from transformers import CLIPTextModel

    tower = CLIPTextModel.from_pretrained(files.base() / "text_encoder").float().eval()
    ids = torch.randint(0, 500, (1, 77), generator=torch.Generator().manual_seed(0))
    plain = tower(ids).last_hidden_state
    table = files.factors(lambda name: name.startswith("text_encoder."), size=0.15)
    modules = {name.removeprefix("text_model."): module for name, module in tower.named_modules()}
    for name, change in files.products(table):
        modules[name.removeprefix("text_encoder.text_model.")].weight += change
    expected = tower(ids).last_hidden_state
    pipe.load_lora(files.diffusers(tmp_path / "l.safetensors", table))
    assert pipe.components.text is not None
    found = pipe.components.text(ids)
    pipe.unload_lora()
    assert (expected - plain).abs().max() > 100 * TOLERANCE
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_layers_are_in_the_order_in_which_diffusers_makes_them(pipe: TextToVideoPipeline) -> None:
    from diffusers import UNet3DConditionModel
    from transformers import CLIPTextModel

    assert pipe.components.text is not None
    layers = layers_of([pipe.components.unet.config, pipe.components.text.config])
    unet = UNet3DConditionModel.from_pretrained(files.base() / "unet")
    tower = CLIPTextModel.from_pretrained(files.base() / "text_encoder")
    kinds = nn.Linear | nn.Conv2d | nn.Conv3d
    for part, network, name in (("unet", unet, "UNet3DConditionModel"), ("text", tower, "CLIPEncoderLayer")):
        made = [n.removeprefix("text_model.") for n, m in network.named_modules() if isinstance(m, kinds)]
        ways = rows_of_layers(layers.ordered[part], len(made), lambda *_: True, [name])
        assert tuple(made) == ways[0]
    for name in (
        "Transformer2DModel",
        "TransformerTemporalModel",
        "ResnetBlock2D",
        "TemporalConvLayer",
        "Attention",
    ):
        inside = [
            f"{where}.{n}"
            for where, ancestor in unet.named_modules()
            if type(ancestor).__name__ == name
            for n, m in ancestor.named_modules()
            if isinstance(m, kinds)
        ]
        ways = rows_of_layers(layers.ordered["unet"], len(inside), lambda *_: True, [name])
        assert tuple(inside) == ways[0]
