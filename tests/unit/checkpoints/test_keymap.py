"""The tables of names: complete, unambiguous, exact at full size, and in both directions."""

import json
from functools import cache

import pytest
import torch

from goldens import folder
from kinescribe.checkpoints.keymap import Aliases, KeyMap, key_map, own_map, text_rows, unet_rows, vae_rows
from kinescribe.checkpoints.modelscope import TEXT, UNET, VAE
from kinescribe.checkpoints.read import open_weights
from kinescribe.checkpoints.source import Config, blank, part
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig

FOLDER = folder("text_to_video/modelscope")
FULL: dict[str, tuple[Config, int, int, int]] = {  # config, parameters, ModelScope tensors, diffusers tensors
    "unet": (UNET, 1_411_233_860, 1480, 1480),
    "vae": (VAE, 83_653_863, 248, 248),
    "text": (TEXT, 340_387_840, 280, 372),
}


@cache
def full(name: str, layout: str | None) -> KeyMap:
    return part(FULL[name][0], layout=layout, files=(), wanted="", aliases=Aliases()).keymap  # type: ignore[arg-type]


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("layout", ["modelscope", "diffusers"])
def test_full_size_networks_have_the_published_numbers(name: str, layout: str) -> None:
    _, parameters, modelscope, diffusers = FULL[name]
    shapes = full(name, layout).foreign_shapes
    assert len(shapes) == (modelscope if layout == "modelscope" else diffusers)
    assert count(shapes) == count(dict(full(name, layout).shapes)) == parameters


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("layout", ["modelscope", "diffusers"])
def test_no_two_of_our_tensors_share_a_foreign_name(name: str, layout: str) -> None:
    names = [foreign for entry in full(name, layout).entries for foreign in entry.foreign]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("layout", ["modelscope", "diffusers"])
def test_there_and_back_gives_every_tensor_its_place(name: str, layout: str) -> None:
    keymap = full(name, layout)
    ours = {key: torch.empty(shape, device="meta") for key, shape in keymap.shapes.items()}
    foreign = dict(keymap.to_foreign(ours.__getitem__))
    assert {key: tuple(t.shape) for key, t in foreign.items()} == keymap.foreign_shapes
    back = dict(keymap.to_ours(foreign.__getitem__))
    assert {key: tuple(t.shape) for key, t in back.items()} == dict(keymap.shapes)
    assert list(back) == list(ours)


def test_thirty_four_temporal_projections_change_their_shape() -> None:
    ours, theirs = full("unet", "diffusers").foreign_shapes, full("unet", "modelscope").foreign_shapes
    linear = [
        key for key in theirs if key.endswith(("proj_in.weight", "proj_out.weight")) and len(theirs[key]) == 3
    ]
    assert len(linear) == 34
    assert sum(len(shape) == 3 for shape in ours.values()) == 0


def test_published_names_of_a_few_landmarks() -> None:
    keymap = full("unet", "modelscope")
    place = {entry.foreign[0]: entry.ours for entry in keymap.entries}
    assert place["input_blocks.0.1.proj_in.weight"] == "stem_temporal.project_in.weight"
    assert place["output_blocks.2.1.conv.weight"] == "up.0.resample.conv.weight"
    assert place["output_blocks.5.3.conv.weight"] == "up.1.resample.conv.weight"
    assert place["input_blocks.4.0.temopral_conv.conv1.2.weight"] == (
        "down.1.blocks.0.residual.temporal.stages.0.conv.weight"
    )
    assert keymap.foreign_shapes["input_blocks.4.0.temopral_conv.conv1.2.weight"] == (640, 640, 3, 1, 1)
    decoder = {entry.foreign[0]: entry.ours for entry in full("vae", "modelscope").entries}
    assert decoder["decoder.up.3.block.0.conv1.weight"] == "decoder.levels.0.0.conv1.weight"


def test_split_attention_keeps_the_order_of_rows() -> None:
    config = TextConfig(vocabulary=4, width=2, layers=1, heads=1, mlp_width=4, context_length=3)
    keymap = key_map(blank(config), text_rows(config), "diffusers")
    whole = torch.arange(12.0).view(6, 2)
    ours = {key: torch.zeros(shape) for key, shape in keymap.shapes.items()} | {"layers.0.qkv.weight": whole}
    foreign = dict(keymap.to_foreign(ours.__getitem__))
    attention = "encoder.layers.0.self_attn"
    parts = [foreign[f"{attention}.{name}_proj.weight"] for name in "qkv"]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(dict(keymap.to_ours(foreign.__getitem__))["layers.0.qkv.weight"], whole)


def test_report_names_what_is_missing_unexpected_and_wrong() -> None:
    keymap = full("vae", "diffusers")
    found = dict(keymap.foreign_shapes)
    del found["quant_conv.bias"]
    found["loss.weight"] = (1,)
    found["decoder.conv_out.weight"] = (3, 128, 1, 1)
    report = keymap.report(found)
    assert report.missing == ("quant_conv.bias",)
    assert report.unexpected == ("loss.weight",)
    assert [m.name for m in report.wrong] == ["decoder.conv_out.weight"]
    assert "decoder.conv_out.weight is (3, 128, 1, 1), not (3, 128, 3, 3)" in str(report)
    assert not report.ok


def test_a_linear_layer_saved_as_a_convolution_is_no_fault() -> None:
    keymap = full("vae", "diffusers")
    name = "encoder.mid_block.attentions.0.to_q.weight"
    assert keymap.report(keymap.foreign_shapes | {name: (512, 512, 1, 1)}).ok


def test_own_names_are_their_own_counterparts() -> None:
    keymap = own_map(blank(VAE))
    assert keymap.foreign_shapes == dict(keymap.shapes)


def test_levels_and_blocks_may_be_any_number() -> None:
    config = UNetConfig(
        in_channels=4, out_channels=4, width=32, multipliers=(1, 2), blocks_per_level=3,
        attention_levels=(False, True), head_dim=8, stem_heads=8, context_dim=16, groups=32, dropout=0.0,
    )  # fmt: skip
    keymap = key_map(blank(config), unet_rows(config), "modelscope")
    assert "input_blocks.4.op.weight" in keymap.foreign_shapes
    assert "output_blocks.3.3.conv.weight" in keymap.foreign_shapes


def test_stored_fixture_uses_exactly_these_names() -> None:
    document = json.loads((FOLDER / "configuration.json").read_text())
    sizes = document["model"]["model_cfg"]
    config = UNetConfig(
        in_channels=4, out_channels=4, width=sizes["unet_dim"], multipliers=(1, 1, 1), blocks_per_level=1,
        attention_levels=(False, True, False), head_dim=8, stem_heads=8, context_dim=32, groups=32, dropout=0.1,
    )  # fmt: skip
    weights = open_weights([FOLDER / "text2video_pytorch_model.pth"])
    keymap = key_map(blank(config), unet_rows(config), "modelscope")
    assert weights.shapes == keymap.foreign_shapes


def test_every_module_of_the_autoencoder_has_one_row() -> None:
    rows = [row.ours for row in vae_rows(VAE)]
    assert len(rows) == len(set(rows))


def test_aliases_rename_ignore_and_refuse_twins() -> None:
    aliases = Aliases(renames=((r"^module\.", ""),), ignored=(r"^visual\.",))
    used, ignored = aliases.apply(["module.a", "visual.b"])
    assert (used, ignored) == ({"a": "module.a"}, ("visual.b",))
    with pytest.raises(KeyError):
        aliases.apply(["a", "module.a"])
