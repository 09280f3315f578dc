"""ModelScope folders: the JSON in its variants, odd files, and folders that a web UI left half full."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from goldens import folder
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.modelscope import TEXT, UNET, VAE, unet_config
from kinescribe.errors import WeightsError

Copy = Callable[..., Path]
FOLDER = folder("text_to_video/modelscope")
PUBLISHED = {
    "unet_in_dim": 4, "unet_dim": 320, "unet_y_dim": 768, "unet_context_dim": 1024, "unet_out_dim": 4,
    "unet_dim_mult": [1, 2, 4, 4], "unet_num_heads": 8, "unet_head_dim": 64, "unet_res_blocks": 2,
    "unet_attn_scales": [1, 0.5, 0.25], "unet_dropout": 0.1, "temporal_attention": "True",
    "num_timesteps": 1000, "mean_type": "eps", "var_type": "fixed_small", "loss_type": "mse",
}  # fmt: skip


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "configuration.json"
    document = json.loads(path.read_text())
    change(document["model"])
    path.write_text(json.dumps(document))


def same(folder: Path) -> bool:
    return load_components(folder).model_hash == load_components(FOLDER).model_hash


def test_the_published_sizes_are_the_full_model() -> None:
    assert unet_config(FOLDER, PUBLISHED) == UNET
    assert unet_config(FOLDER, {key.removeprefix("unet_"): value for key, value in PUBLISHED.items()}) == UNET


def test_a_folder_without_extension_has_the_published_sizes(tmp_path: Path) -> None:
    model = {"model_args": {}, "model_cfg": PUBLISHED}
    document = {"task": "text-to-video-synthesis", "model": model}
    (tmp_path / "configuration.json").write_text(json.dumps(document))
    source = describe(tmp_path, variant=None, spec=None)
    assert (source.unet.config, source.vae.config, source.text.config) == (UNET, VAE, TEXT)
    assert source.tokenizer.load().vocabulary == 49408


def test_unprefixed_keys_are_accepted(copy: Copy) -> None:
    folder = copy("modelscope")

    def strip(model: dict[str, Any]) -> None:
        model["model_cfg"] = {key.removeprefix("unet_"): value for key, value in model["model_cfg"].items()}

    edit(folder, strip)
    assert same(folder)


def test_a_boolean_where_the_reference_has_a_string_means_the_same(copy: Copy) -> None:
    folder = copy("modelscope")
    edit(folder, lambda model: model["model_cfg"].update(temporal_attention=True))
    assert same(folder)
    edit(folder, lambda model: model["model_cfg"].update(temporal_attention="False"))
    with pytest.raises(WeightsError, match="temporal_attention is off"):
        load_components(folder)


def test_heads_that_are_not_given_follow_the_width() -> None:
    assert unet_config(FOLDER, PUBLISHED | {"unet_num_heads": None}).stem_heads == 10


@pytest.mark.parametrize("name", ["../secret.pth", "/etc/passwd", "a/../../b"])
def test_file_names_may_not_leave_the_folder(copy: Copy, name: str) -> None:
    folder = copy("modelscope")
    edit(folder, lambda model: model["model_args"].update(ckpt_unet=name))
    with pytest.raises(WeightsError, match="only plain names"):
        load_components(folder)


def test_another_prediction_than_the_models_is_refused(copy: Copy) -> None:
    folder = copy("modelscope")
    edit(folder, lambda model: model["model_cfg"].update(mean_type="v"))
    with pytest.raises(WeightsError, match="mean_type 'v'"):
        load_components(folder)


def test_a_missing_size_is_named(copy: Copy) -> None:
    folder = copy("modelscope")
    edit(folder, lambda model: model["model_cfg"].pop("unet_dim"))
    with pytest.raises(WeightsError, match="lacks or garbles 'dim'"):
        load_components(folder)


def test_wrapped_and_prefixed_states_are_accepted(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "text2video_pytorch_model.pth"
    state = torch.load(path, weights_only=True)
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}, "step": 267000}, path)
    assert same(folder)


def test_an_autoencoder_by_itself_is_accepted(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "VQGAN_autoencoder.pth"
    state = torch.load(path, weights_only=True)["state_dict"]
    prefix = "first_stage_model."
    torch.save({k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}, path)
    assert same(folder)


def test_safetensors_twins_are_accepted(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "text2video_pytorch_model.pth"
    save_file(torch.load(path, weights_only=True), path.with_suffix(".safetensors"))
    path.unlink()
    assert same(folder)


def test_defaults_follow_the_folder() -> None:
    spec = load_components(FOLDER).spec
    assert spec.defaults.frames == spec.trained_frames == 3


def test_a_web_ui_folder_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "text2video_pytorch_model.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="missing .*VQGAN_autoencoder.pth.*modelscope-1.7b"):
        load_components(tmp_path)
