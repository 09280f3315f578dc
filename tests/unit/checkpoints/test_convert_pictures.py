"""Image and second-stage models through every layout that can hold them: every number comes back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from goldens import folder
from kinescribe.checkpoints.check import verify
from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.native import describe_native, save_native
from kinescribe.components import Components
from kinescribe.errors import WeightsError
from vgen_folder import UNET_FILE, write_vgen

REFERENCE = "image_and_video_to_video"
CLIP, LIGHTNING = "open_clip_pytorch_model.bin", "v2-1_512-ema-pruned.ckpt"
IMAGE_UNET, VIDEO_UNET = "base_03_alldata_fps_v_80g_0789000.pth", "non_ema_0035000.pth"


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder's files, under file and name; a variant's file counts as the plain one."""
    found = {}
    for file in sorted(path.rglob("*")):
        if file.suffix in (".safetensors", ".pth", ".bin", ".ckpt"):
            state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
            name = str(file.relative_to(path)).replace(".fp16.", ".")
            found |= {f"{name}:{key}": tensor for key, tensor in state.get("state_dict", state).items()}
    return found


def equal(one: Components, other: Components) -> bool:
    """The same numbers, sizes, schedule and words; where each was read from does not count."""
    same = one.model_hash == other.model_hash and one.schedule == other.schedule
    for name in ("unet", "vae", "text", "conditions", "vision"):
        ours, theirs = getattr(one, name), getattr(other, name)
        same &= (ours is None) == (theirs is None)
        if ours is not None:
            state = theirs.state_dict()
            same &= ours.config == theirs.config
            same &= all(torch.equal(tensor, state[key]) for key, tensor in ours.state_dict().items())
    if one.tokenizer is not None and other.tokenizer is not None:
        words = ["A red boat!", ""]
        same &= torch.equal(one.tokenizer(words).ids, other.tokenizer(words).ids)
    return bool(same)


@pytest.mark.parametrize("name", ["i2v", "v2v", "i2vgen-xl"])
def test_a_native_copy_is_the_model(tmp_path: Path, name: str) -> None:
    report = convert(folder(f"{REFERENCE}/{name}"), tmp_path / "m")
    before, after = load_components(folder(f"{REFERENCE}/{name}")), load_components(tmp_path / "m")
    assert equal(before, after)
    assert before.spec == after.spec
    assert report.cannot_hold == ()
    assert report.tensors == sum(len(network.state_dict()) for network in after.networks)
    assert verify(tmp_path / "m").ok
    assert {path.stem for path in (tmp_path / "m").glob("*.safetensors")} == {
        "i2v": {"unet", "vae", "conditions", "vision"},
        "v2v": {"unet", "vae", "text"},
        "i2vgen-xl": {"unet", "vae", "text", "conditions", "vision"},
    }[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "to", "lost"),
    [
        ("i2v", "modelscope", 6 + 12),  # the text tower, of one layer, which this model does not use
        ("v2v", "modelscope", 20 + 12 + 2),  # image tower, last text layer, projection and scale
        ("i2vgen-xl", "diffusers", 0),
    ],
)
@pytest.mark.parametrize("way", ["native", None])
def test_every_published_tensor_that_is_used_comes_back(
    tmp_path: Path, name: str, to: str, lost: int, way: str | None
) -> None:
    source = folder(f"{REFERENCE}/{name}")
    if way is not None:
        convert(source, tmp_path / "way", way)
    convert(source if way is None else tmp_path / "way", tmp_path / "end", to)
    before, after = tensors(source), tensors(tmp_path / "end")
    assert set(after) <= set(before)
    outside = {key for key in before if LIGHTNING in key and ":first_stage_model." not in key}
    assert len(before) - len(after) - len(outside) == lost
    for key, tensor in after.items():
        idle = name == "i2vgen-xl" and "text_model.encoder.layers.2." in key
        assert torch.equal(tensor, torch.zeros_like(tensor) if idle else before[key]), key
    back = load_components(tmp_path / "end")
    assert equal(load_components(source), back)
    assert back.spec.kind == load_components(source).spec.kind


@pytest.mark.slow
def test_vgens_file_comes_back_through_diffusers_and_native(tmp_path: Path) -> None:
    source = write_vgen(folder(f"{REFERENCE}/i2vgen-xl"), tmp_path / "models")
    report = convert(source / UNET_FILE, tmp_path / "df", "diffusers")
    assert any("added 2 times, as trained; diffusers adds it once" in line for line in report.cannot_hold)
    assert any("written as zeros" in line for line in report.cannot_hold)
    theirs, published = tensors(tmp_path / "df"), tensors(folder(f"{REFERENCE}/i2vgen-xl"))
    assert set(theirs) == set(published)
    assert all(torch.equal(theirs[key], published[key]) for key in theirs if ".layers.2." not in key)
    convert(source, tmp_path / "own")
    own = load_components(tmp_path / "own")
    assert own.conditions is not None and own.conditions.config.local_additions == 2
    assert equal(load_components(source), own)


def test_the_report_names_what_no_part_needs(tmp_path: Path) -> None:
    said = convert(folder(f"{REFERENCE}/i2v"), tmp_path / "i").left_out
    assert f"{CLIP}: transformer.resblocks.0.* (12 tensors)" in said
    assert f"{LIGHTNING}: model.diffusion_model.time_embed.0.weight" in said
    assert not any("fps_embedding" in line or "visual" in line or "input_blocks" in line for line in said)
    said = convert(folder(f"{REFERENCE}/v2v"), tmp_path / "v").left_out
    assert f"{CLIP}: visual.* (20 tensors)" in said


def test_a_filtered_model_stays_filtered_in_our_layout_alone(tmp_path: Path) -> None:
    source = folder(f"{REFERENCE}/v2v")
    options = {"as_model": "vgen-sr600", "base": source}
    for to in ("modelscope", "diffusers"):
        with pytest.raises(WeightsError, match="cannot hold this model: .*filters its decoder's skips"):
            convert(source / VIDEO_UNET, tmp_path / to, to, **options)  # type: ignore[arg-type]
    convert(source / VIDEO_UNET, tmp_path / "own", **options)  # type: ignore[arg-type]
    parts = load_components(tmp_path / "own")
    assert parts.spec.refinement is not None and parts.spec.refinement.inversion == "cosine"
    assert all(level.skip_filter is not None for level in parts.unet.up)


@pytest.mark.parametrize(
    ("name", "to", "said"),
    [
        ("i2v", "diffusers", "no class there takes a picture as this model does"),
        ("v2v", "diffusers", "pad more rows.*its schedule has no name there"),
        ("i2vgen-xl", "modelscope", "VGen's bare files"),
    ],
)
def test_what_a_layout_cannot_express_is_refused_in_words(
    tmp_path: Path, name: str, to: str, said: str
) -> None:
    with pytest.raises(WeightsError, match=f"the {to} layout cannot hold this model: .*{said}"):
        convert(folder(f"{REFERENCE}/{name}"), tmp_path / "m", to)
    assert not (tmp_path / "m").exists()


def test_a_text_to_video_folder_written_today_says_nothing_new(tmp_path: Path) -> None:
    convert(folder("text_to_video/diffusers"), tmp_path / "m")
    document = json.loads((tmp_path / "m" / "kinescribe.json").read_text())
    assert "row_padding" not in document["unet"] and "padded_with_end" not in document["tokenizer"]
    assert not {"picture", "refinement", "row_remainder"} & set(document["spec"])


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("i2v", lambda d: d["spec"].pop("picture"), "image-to-video without what that needs"),
        ("v2v", lambda d: d["spec"].pop("refinement"), "video-to-video without what that needs"),
        ("v2v", lambda d: d["spec"]["refinement"].update(inversion="linear"), "Refinement.inversion"),
        ("i2v", lambda d: d["spec"]["picture"].pop("crop"), "PictureInput has 'crop'"),
        ("i2v", lambda d: d.update(kind="audio-to-video"), "ModelSpec.kind is 'audio-to-video'"),
        ("i2v", lambda d: d.pop("conditions"), "'conditions' is absent"),
        ("i2v", lambda d: d["conditions"].update(local_channels=-1), "malformed"),
        ("v2v", lambda d: d["unet"].update(row_padding=3), "malformed"),
        ("v2v", lambda d: d.pop("tokenizer"), "'tokenizer' is absent"),
        ("v2v", lambda d: d["tokenizer"].update(padded_with_end=1), "tokenizer is malformed"),
    ],
)
def test_a_spoilt_configuration_is_one_line(tmp_path: Path, name: str, edit: object, said: str) -> None:
    convert(folder(f"{REFERENCE}/{name}"), tmp_path / "m")
    path = tmp_path / "m" / "kinescribe.json"
    document = json.loads(path.read_text())
    edit(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=said) as caught:
        load_components(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_a_loaded_model_can_be_saved_with_all_its_parts(tmp_path: Path) -> None:
    parts = load_components(folder(f"{REFERENCE}/i2vgen-xl"))
    spec = replace(parts.spec, defaults=replace(parts.spec.defaults, frames=4))
    save_native(
        tmp_path / "m",
        unet=parts.unet,
        vae=parts.vae,
        text=parts.text,
        tokenizer=parts.tokenizer,
        schedule=parts.schedule,
        spec=spec,
        conditions=parts.conditions,
        vision=parts.vision,
    )
    assert equal(parts, load_components(tmp_path / "m"))
    assert describe_native(tmp_path / "m").spec == spec
