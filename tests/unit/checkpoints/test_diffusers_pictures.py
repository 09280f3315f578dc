"""The diffusers folder of I2VGen-XL as published, and in the shapes that people made of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from goldens import folder
from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.diffusers import PICTURE_DEVIATION, PICTURE_MEAN
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.modelscope import I2VGEN_XL, TEXT, UNET, VIT_H
from kinescribe.checkpoints.source import Source
from kinescribe.errors import WeightsError
from kinescribe.media.crop import DEVIATION, MEAN

Copy = Callable[..., Path]
FOLDER = folder("image_and_video_to_video/i2vgen-xl")
PUBLISHED = {
    "model_index": {"_class_name": "I2VGenXLPipeline", "_diffusers_version": "0.26.1"},
    "unet/config": {
        "_class_name": "I2VGenXLUNet", "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024,
        "in_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "num_attention_heads": 64,
        "out_channels": 4, "sample_size": 32,
    },
    "vae/config": {
        "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
        "force_upcast": True, "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
        "norm_num_groups": 32, "out_channels": 3, "sample_size": 768, "scaling_factor": 0.18125,
    },
    "text_encoder/config": {
        "hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77, "num_attention_heads": 16, "num_hidden_layers": 24, "projection_dim": 1024,
        "vocab_size": 49408,
    },
    "image_encoder/config": {
        "hidden_act": "gelu", "hidden_size": 1280, "image_size": 224, "intermediate_size": 5120,
        "layer_norm_eps": 1e-05, "num_attention_heads": 16, "num_hidden_layers": 32, "patch_size": 14,
        "projection_dim": 1024,
    },
    "scheduler/scheduler_config": {
        "_class_name": "DDIMScheduler", "beta_end": 0.02, "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.0001, "clip_sample": False, "num_train_timesteps": 1000,
        "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "set_alpha_to_one": True,
        "steps_offset": 1, "thresholding": False, "timestep_spacing": "leading", "trained_betas": None,
    },
    "tokenizer/vocab": {}, "tokenizer/merges": {},
}  # fmt: skip


def published(target: Path) -> Source:
    for name, table in PUBLISHED.items():
        path = target / f"{name}.{'txt' if name.endswith('merges') else 'json'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table))
    return describe(target, variant="fp16", spec=None)


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def same(path: Path, **options: str) -> bool:
    return load_components(path, **options).model_hash == load_components(FOLDER).model_hash  # type: ignore[arg-type]


def test_the_published_configurations_are_the_full_model(tmp_path: Path) -> None:
    source = published(tmp_path / "models--ali-vilab--i2vgen-xl" / "snapshots" / "cdd9706")
    assert source.spec is CATALOG["i2vgen-xl"]
    assert vars(source.unet.config) == vars(UNET) | {"in_channels": 8}
    assert source.conditions is not None and source.vision is not None and source.text is not None
    assert vars(source.conditions.config) == vars(I2VGEN_XL) | {"local_additions": 1}
    assert (source.vision.config, source.text.config) == (VIT_H, TEXT)
    names = {**source.unet.keymap.foreign_shapes, **source.conditions.keymap.foreign_shapes}
    assert len(names) == 1511
    assert sum(torch.Size(shape).numel() for shape in names.values()) == 1_420_469_224
    assert source.vae.config.scale == 0.18125  # type: ignore[union-attr]


def test_a_folder_of_another_name_keeps_the_sizes_of_the_row(tmp_path: Path) -> None:
    spec = published(tmp_path / "mine").spec
    assert spec.defaults == CATALOG["i2vgen-xl"].defaults
    assert (spec.name, spec.kind, spec.picture) == ("mine", "image-to-video", CATALOG["i2vgen-xl"].picture)


def test_half_precision_alone_is_a_whole_folder() -> None:
    assert not list(FOLDER.rglob("model.safetensors"))
    assert load_components(FOLDER).dtype == torch.float16
    assert same(FOLDER, variant="fp16")


def test_the_last_text_layer_may_be_there_or_not(copy: Copy) -> None:
    path = copy("i2vgen-xl")
    file = path / "text_encoder" / "model.fp16.safetensors"
    state = load_file(file)
    save_file({name: t for name, t in state.items() if ".layers.2." not in name}, file)
    assert same(path)
    save_file(state | {"text_model.encoder.layers.3.mlp.fc1.bias": torch.zeros(64)}, file)
    with pytest.raises(WeightsError, match="1 unexpected .encoder.layers.3.mlp.fc1.bias"):
        load_components(path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unet/diffusion_pytorch_model", "image_latents_proj_in.6.weight"),
        ("unet/diffusion_pytorch_model", "stranger.weight"),
        ("image_encoder/model", "vision_model.stranger.weight"),
    ],
)
def test_a_tensor_that_no_part_knows_is_an_error(copy: Copy, file: str, name: str) -> None:
    path = copy("i2vgen-xl")
    state = load_file(path / f"{file}.fp16.safetensors")
    save_file(state | {name: torch.zeros(1)}, path / f"{file}.fp16.safetensors")
    with pytest.raises(WeightsError, match=f"1 unexpected .{name}"):
        load_components(path)


def test_position_numbers_of_earlier_transformers_are_ignored(copy: Copy) -> None:
    path = copy("i2vgen-xl")
    file = path / "image_encoder" / "model.fp16.safetensors"
    save_file(load_file(file) | {"vision_model.embeddings.position_ids": torch.arange(5)[None]}, file)
    assert same(path)


def test_what_fills_a_text_is_read_from_the_folder(copy: Copy) -> None:
    def padding(path: Path) -> int:
        tokenizer, _ = load_components(path).require_text()
        return int(tokenizer([""]).ids[0, -1])

    path = copy("i2vgen-xl")
    marks = path / "tokenizer" / "special_tokens_map.json"
    assert padding(path) == 513
    edit_json(marks, pad_token={"content": "<|endoftext|>", "lstrip": False})
    assert padding(path) == 513
    edit_json(marks, pad_token="!")
    assert padding(path) == 0
    marks.unlink()
    assert padding(path) == 513  # the other file says it as well
    (path / "tokenizer" / "tokenizer_config.json").unlink()
    assert padding(path) == 0


@pytest.mark.parametrize("head", [{"attention_head_dim": 64}, {}, {"num_attention_heads": 64}])
def test_folders_of_before_the_head_width_was_written_have_the_same(
    tmp_path: Path, head: dict[str, int]
) -> None:
    table = {name: value for name, value in PUBLISHED["unet/config"].items() if name != "num_attention_heads"}
    published(tmp_path / "m")
    (tmp_path / "m" / "unet" / "config.json").write_text(json.dumps(table | head))
    assert describe(tmp_path / "m", variant=None, spec=None).unet.config.head_dim == 64  # type: ignore[union-attr]


def test_without_an_index_the_class_of_the_unet_tells(copy: Copy) -> None:
    path = copy("i2vgen-xl")
    (path / "model_index.json").unlink()
    assert load_components(path).spec.kind == "image-to-video"


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, "unet: _class_name"),
        ("model_index.json", {"_class_name": "TextToVideoSDPipeline"}, "unet: _class_name is 'I2VGenXLUNet'"),
        ("model_index.json", {"_class_name": "StableVideoDiffusionPipeline"}, "a folder of StableVideo"),
        ("image_encoder/config.json", {"hidden_act": "quick_gelu"}, "image_encoder: hidden_act"),
        ("feature_extractor/preprocessor_config.json", {"image_mean": [0.5] * 3}, "image_mean"),
        ("feature_extractor/preprocessor_config.json", {"crop_size": 336}, "pictures of 336"),
        ("image_encoder/config.json", None, "image_encoder/config.json is missing"),
    ],
)
def test_what_does_not_fit_is_named(
    copy: Copy, file: str, values: dict[str, object] | None, said: str
) -> None:
    path = copy("i2vgen-xl")
    if values is None:
        (path / file).unlink()
    else:
        edit_json(path / file, **values)
    with pytest.raises(WeightsError, match=said):
        load_components(path)


def test_a_text_to_video_row_is_refused_for_it() -> None:
    with pytest.raises(WeightsError, match="I2VGen-XL .image-to-video., but potat1 is a text-to-video model"):
        load_components(FOLDER, as_model="potat1")


def test_pictures_are_prepared_as_the_folder_says() -> None:
    assert pytest.approx(MEAN.tolist(), abs=1e-7) == list(PICTURE_MEAN)
    assert pytest.approx(DEVIATION.tolist(), abs=1e-7) == list(PICTURE_DEVIATION)
