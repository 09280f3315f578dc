"""The tables of names of image-to-video: complete at full size, exact in both directions, axes exchanged once."""

from functools import cache

import pytest
import torch

from kinescribe.checkpoints.image_rows import image_condition_rows, vision_rows
from kinescribe.checkpoints.keymap import Foreign, KeyMap, key_map
from kinescribe.checkpoints.modelscope import I2VGEN_XL, IMAGE_TO_VIDEO, VIT_H
from kinescribe.models.image_conditions import ImageConditions
from kinescribe.models.vision import VisionConfig, VisionEncoder

FULL = {  # tensors under ModelScope's names and under those of diffusers
    "image-to-video": (8, 8),
    "i2vgen-xl": (29, 31),
    "vit-h": (392, 520),
}
TINY = VisionConfig(width=4, layers=1, heads=1, mlp_width=8, patch=2, size=4, embedding_width=3)


@cache
def full(name: str, layout: Foreign) -> KeyMap:
    with torch.device("meta"):
        if name == "vit-h":
            return key_map(VisionEncoder(VIT_H), vision_rows(VIT_H), layout)
        config = IMAGE_TO_VIDEO if name == "image-to-video" else I2VGEN_XL
        return key_map(ImageConditions(config), image_condition_rows(config), layout)


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("layout", ["modelscope", "diffusers"])
def test_full_size_networks_have_the_published_names(name: str, layout: Foreign) -> None:
    keymap = full(name, layout)
    names = [foreign for entry in keymap.entries for foreign in entry.foreign]
    assert len(names) == len(set(names)) == FULL[name][layout == "diffusers"]
    ours = {key: torch.empty(shape, device="meta") for key, shape in keymap.shapes.items()}
    foreign = dict(keymap.to_foreign(ours.__getitem__))
    assert {key: tuple(t.shape) for key, t in foreign.items()} == keymap.foreign_shapes
    back = dict(keymap.to_ours(foreign.__getitem__))
    assert {key: tuple(t.shape) for key, t in back.items()} == dict(keymap.shapes)


@pytest.mark.parametrize("layout", ["modelscope", "diffusers"])
def test_every_number_comes_back(layout: Foreign) -> None:
    network = VisionEncoder(TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    keymap = key_map(network, vision_rows(TINY), layout)
    ours = network.state_dict()
    foreign = dict(keymap.to_foreign(ours.__getitem__))
    assert keymap.report({key: tuple(t.shape) for key, t in foreign.items()}).ok
    for name, tensor in keymap.to_ours(foreign.__getitem__):
        assert torch.equal(tensor, ours[name])


def test_the_projection_lies_across_in_a_clip_file_and_upright_in_transformers() -> None:
    ours = VisionEncoder(TINY).state_dict()
    clip = dict(key_map(VisionEncoder(TINY), vision_rows(TINY), "modelscope").to_foreign(ours.__getitem__))
    assert torch.equal(clip["visual.proj"], ours["project.weight"].mT) and clip["visual.proj"].is_contiguous()
    theirs = dict(key_map(VisionEncoder(TINY), vision_rows(TINY), "diffusers").to_foreign(ours.__getitem__))
    assert torch.equal(theirs["visual_projection.weight"], ours["project.weight"])
    assert full("vit-h", "modelscope").foreign_shapes["visual.proj"] == (1280, 1024)


def test_a_projection_that_lies_the_other_way_is_refused() -> None:
    keymap = key_map(VisionEncoder(TINY), vision_rows(TINY), "modelscope")
    report = keymap.report(keymap.foreign_shapes | {"visual.proj": (3, 4)})
    assert [wrong.name for wrong in report.wrong] == ["visual.proj"]


def test_published_names_of_a_few_landmarks() -> None:
    local = {entry.ours: entry.foreign for entry in full("i2vgen-xl", "modelscope").entries}
    layer = "local_temporal_encoder.layers.0"
    assert local["local.temporal.norm.weight"] == (f"{layer}.0.norm.weight",)
    assert local["local.temporal.qkv.weight"] == (f"{layer}.0.fn.to_qkv.weight",)
    assert local["local.temporal.out.bias"] == (f"{layer}.0.fn.to_out.0.bias",)
    assert local["local.temporal.feed_forward.0.bias"] == (f"{layer}.1.net.0.0.bias",)
    assert local["local.temporal.feed_forward.2.bias"] == (f"{layer}.1.net.2.bias",)
    assert local["local.channels.4.weight"] == ("local_image_concat.4.weight",)
    assert local["local.tokens.3.bias"] == ("local_image_embedding.3.bias",)
    split = {entry.ours: entry.foreign for entry in full("i2vgen-xl", "diffusers").entries}
    place = "image_latents_temporal_encoder.attn1"
    assert split["local.temporal.qkv.weight"] == tuple(f"{place}.to_{part}.weight" for part in "qkv")
    assert split["local.tokens.3.bias"] == ("image_latents_context_embedding.3.bias",)
    tower = {entry.ours: entry.foreign for entry in full("vit-h", "modelscope").entries}
    assert tower["class_token"] == ("visual.class_embedding",)
    assert tower["layers.31.qkv.bias"] == ("visual.transformer.resblocks.31.attn.in_proj_bias",)
