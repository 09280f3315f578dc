"""Every shape in which a diffusers folder is found: variants, shards, old names, either tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from goldens import folder
from kinescribe.checkpoints.diffusers import schedule_config
from kinescribe.checkpoints.load import load_components
from kinescribe.errors import WeightsError

Copy = Callable[..., Path]
FOLDER = folder("text_to_video/diffusers")
PARTS = {
    "unet": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "text_encoder": ("model", "pytorch_model"),
}


def same(folder: Path, **options: object) -> bool:
    wanted = load_components(FOLDER)
    return load_components(folder, **options).model_hash == wanted.model_hash  # type: ignore[arg-type]


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shard(folder: Path, stem: str, variant: str, *, modern: bool) -> None:
    """Split a file in two with an index, in one of the two ways in which shards are named."""
    dot = f".{variant}" if variant else ""
    path = folder / f"{stem}{dot}.safetensors"
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    where = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        number = f"-0000{i}-of-00002"
        file = f"{stem}{number}{dot}.safetensors" if modern else f"{stem}{dot}{number}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        where |= dict.fromkeys(part, file)
    index = f"{stem}.safetensors.index{dot}.json" if modern else f"{stem}{dot}.safetensors.index.json"
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("variant", ["", "fp16"])
@pytest.mark.parametrize("modern", [True, False])
def test_shards_are_read_through_their_index(copy: Copy, variant: str, modern: bool) -> None:
    folder = copy("diffusers")
    for name, (stem, _) in PARTS.items():
        shard(folder / name, stem, variant, modern=modern)
    assert same(folder, variant=variant or None)


def test_a_missing_shard_is_named(copy: Copy) -> None:
    folder = copy("diffusers")
    for path in (folder / "unet").glob("*fp16*"):
        path.unlink()
    shard(folder / "unet", "diffusion_pytorch_model", "", modern=True)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing .*-00002-of-00002.safetensors"):
        load_components(folder)


def test_an_index_may_not_leave_its_folder(copy: Copy) -> None:
    folder = copy("diffusers")
    shard(folder / "unet", "diffusion_pytorch_model", "", modern=True)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    edit_json(path, weight_map={"a": "../../outside.safetensors"})
    with pytest.raises(WeightsError, match="only plain names"):
        load_components(folder)


def test_pickled_files_do_as_well(copy: Copy) -> None:
    folder = copy("diffusers")
    for name, (stem, pickled) in PARTS.items():
        tensors = load_file(folder / name / f"{stem}.safetensors")
        for path in (folder / name).glob("*.safetensors"):
            path.unlink()
        torch.save(tensors, folder / name / f"{pickled}.bin")
    assert same(folder)


def test_half_precision_under_plain_names_is_seen_by_its_numbers(copy: Copy) -> None:
    folder = copy("diffusers")
    for name, (stem, _) in PARTS.items():
        (folder / name / f"{stem}.fp16.safetensors").replace(folder / name / f"{stem}.safetensors")
    assert load_components(folder).dtype == torch.float16
    assert same(folder)


def test_a_variant_that_is_missing_falls_back_to_the_plain_file(copy: Copy) -> None:
    folder = copy("diffusers")
    for path in folder.rglob("*.fp16.safetensors"):
        path.unlink()
    assert load_components(folder, variant="fp16").dtype == torch.float32


def test_a_folder_of_fp16_files_alone_is_whole(copy: Copy) -> None:
    folder = copy("diffusers")
    for name, (stem, _) in PARTS.items():
        (folder / name / f"{stem}.safetensors").unlink()
    assert load_components(folder).dtype == torch.float16


def test_old_and_new_attention_names_mean_the_same() -> None:
    old = load_file(FOLDER / "vae" / "diffusion_pytorch_model.safetensors")
    new = load_file(FOLDER / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    assert "encoder.mid_block.attentions.0.query.weight" in old
    assert "encoder.mid_block.attentions.0.to_q.weight" in new
    assert same(FOLDER, variant="fp16")


def test_the_prefix_of_the_text_tower_may_be_absent(copy: Copy) -> None:
    folder = copy("diffusers")
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    assert "text_model.embeddings.position_ids" in tensors
    save_file({name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}, path)
    assert same(folder)


def test_the_tokenizer_may_be_one_file(copy: Copy) -> None:
    folder = copy("diffusers")
    wanted = load_components(folder).tokenizer
    wanted.full.write_json(folder / "tokenizer" / "tokenizer.json")
    (folder / "tokenizer" / "vocab.json").unlink()
    (folder / "tokenizer" / "merges.txt").unlink()
    prompt = ["A panda eating bamboo on a rock."]
    assert torch.equal(load_components(folder).tokenizer(prompt).ids, wanted(prompt).ids)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="neither vocab.json and merges.txt nor tokenizer.json"):
        load_components(folder)


def test_unknown_keys_of_a_configuration_are_ignored(copy: Copy) -> None:
    folder = copy("diffusers")
    edit_json(folder / "unet" / "config.json", use_linear_projection=True, flip_sin_to_cos=True, freq_shift=0)
    assert same(folder)


@pytest.mark.parametrize("index", ["TextToVideoMSPipeline", None])
def test_the_first_name_of_the_pipeline_and_no_index_are_fine(copy: Copy, index: str | None) -> None:
    folder = copy("diffusers")
    if index is None:
        (folder / "model_index.json").unlink()
    else:
        edit_json(folder / "model_index.json", _class_name=index)
    assert same(folder)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("unet", {"_class_name": "I2VGenXLUNet"}),
        ("unet", {"act_fn": "gelu"}),
        ("unet", {"block_out_channels": [32, 48, 64]}),
        ("unet", {"up_block_types": ["UpBlock3D"] * 3}),
        ("vae", {"_class_name": "VQModel"}),
        ("vae", {"use_quant_conv": False}),
        ("text_encoder", {"hidden_act": "quick_gelu"}),
    ],
)
def test_options_that_change_the_network_are_refused(
    copy: Copy, part: str, values: dict[str, object]
) -> None:
    folder = copy("diffusers")
    edit_json(folder / part / "config.json", **values)
    with pytest.raises(WeightsError, match=part):
        load_components(folder)


@pytest.mark.parametrize("name", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_configuration_is_named(copy: Copy, name: str) -> None:
    folder = copy("diffusers")
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        load_components(folder)


def test_a_spacing_that_is_not_written_stays_open() -> None:
    table = json.loads((FOLDER / "scheduler" / "scheduler_config.json").read_text())
    assert schedule_config(FOLDER, table).spacing is None
    assert schedule_config(FOLDER, table | {"timestep_spacing": "leading"}).spacing == "leading"


def test_schedules_are_translated() -> None:
    table = {
        "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "set_alpha_to_one": True, "steps_offset": 0, "num_train_timesteps": 500,
    }  # fmt: skip
    schedule = schedule_config(FOLDER, table)
    assert (schedule.kind, schedule.prediction, schedule.zero_terminal_snr) == ("cosine", "velocity", True)
    assert (schedule.final, schedule.offset, schedule.train_steps) == ("clean", 0, 500)


@pytest.mark.parametrize(
    "values",
    [{"thresholding": True}, {"trained_betas": [0.1]}, {"beta_schedule": "exp"}, {"prediction_type": "flow"}],
)
def test_schedules_that_we_do_not_have_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="scheduler"):
        schedule_config(FOLDER, values)


def test_defaults_follow_the_folder() -> None:
    spec = load_components(FOLDER).spec
    assert (spec.defaults.width, spec.defaults.height, spec.defaults.sampler) == (64, 64, "ddim")


def test_a_published_name_brings_its_row(copy: Copy) -> None:
    folder = copy("diffusers", "models--cerspense--zeroscope_v2_576w")
    assert load_components(folder).spec.name == "zeroscope-v2-576w"
    assert load_components(FOLDER, as_model="potat1").spec.name == "potat1"
