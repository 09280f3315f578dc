"""Lists without names, on the layers of the published 1.7 B model; their order is compared with diffusers in parity."""

import pytest

from kinescribe.checkpoints.lora_layers import Layers, layers_of
from kinescribe.checkpoints.lora_order import GUIDANCE_LAYER, rows_of_layers
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig

UNET = UNetConfig(
    in_channels=4, out_channels=4, width=320, multipliers=(1, 2, 4, 4), blocks_per_level=2,
    attention_levels=(True, True, True, False), head_dim=64, stem_heads=8, context_dim=1024, groups=32, dropout=0.1,
)  # fmt: skip
TEXT = TextConfig(vocabulary=49408, width=1024, layers=23, heads=16, mlp_width=4096, context_length=77)
COUNTS = {
    "UNet3DConditionModel": 574, "Transformer2DModel": 192, "TransformerTemporalModel": 204, "ResnetBlock2D": 80,
    "TemporalConvLayer": 88, "Attention": 264,
}  # fmt: skip


@pytest.fixture(scope="module")
def layers() -> Layers:
    return layers_of([UNET, TEXT])


@pytest.mark.parametrize("chosen", COUNTS)
def test_shapes_alone_tell_every_list_of_the_published_model_apart(layers: Layers, chosen: str) -> None:
    names, count = layers.ordered["unet"], COUNTS[chosen]
    for row in rows_of_layers(names, count, lambda *_: True, [chosen]):  # of both ages of diffusers
        shapes = [layers.table["unet", name].shape for name in row]
        ways = rows_of_layers(names, count, lambda i, n, s=shapes: s[i] == layers.table["unet", n].shape)  # type: ignore[misc]
        assert ways == [row]


def test_the_feed_forward_part_once_came_between_the_attentions(layers: Layers) -> None:
    new, old = rows_of_layers(layers.ordered["unet"], 204, lambda *_: True, ["TransformerTemporalModel"])
    parts = [[name.split(".")[3] for name in row[1:11]] for row in (new, old)]
    assert parts[0] == ["attn1"] * 4 + ["attn2"] * 4 + ["ff"] * 2
    assert parts[1] == ["attn1"] * 4 + ["ff"] * 2 + ["attn2"] * 4


def test_a_layer_for_the_guidance_scale_is_one_more(layers: Layers) -> None:
    (row, _) = rows_of_layers(layers.ordered["unet"], 575, lambda *_: True, ["UNet3DConditionModel"])
    assert row[1:4] == ("time_embedding.linear_1", GUIDANCE_LAYER, "time_embedding.linear_2")


def test_no_order_fits_other_shapes(layers: Layers) -> None:
    assert rows_of_layers(layers.ordered["unet"], 574, lambda *_: False) == []
    assert rows_of_layers(layers.ordered["unet"], 573, lambda *_: True) == []
