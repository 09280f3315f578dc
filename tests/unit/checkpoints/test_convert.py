"""Conversion: exact round trips, honest reports, nothing half done."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lora_files
from goldens import folder
from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.lora import read_lora
from kinescribe.checkpoints.native import save_native
from kinescribe.components import Components
from kinescribe.errors import NumbersError, OptionError, WeightsError

Copy = Callable[..., Path]
FIXTURE = folder("text_to_video")
LAYOUTS = ("native", "diffusers", "modelscope")
PROMPT = ["A panda eating bamboo on a rock."]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder's files, under file and name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".pth", ".bin"):
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
            state = state.get("state_dict", state)
            found |= {f"{path.relative_to(folder)}:{name}": tensor for name, tensor in state.items()}
    return found


TRIPS = [
    (source, through, to)
    for source in ("diffusers", "modelscope")
    for through in LAYOUTS
    for to in (source, "native")
    if through != to
]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "through", "to"), TRIPS)
def test_round_trips_are_exact(tmp_path: Path, source: str, through: str, to: str) -> None:
    convert(FIXTURE / source, tmp_path / "direct", to)
    convert(FIXTURE / source, tmp_path / "way", through)
    convert(tmp_path / "way", tmp_path / "end", to)
    direct, end = tensors(tmp_path / "direct"), tensors(tmp_path / "end")
    assert list(direct) == list(end)
    assert all(torch.equal(direct[key], end[key]) and direct[key].dtype == end[key].dtype for key in direct)
    assert load_components(tmp_path / "end").schedule == load_components(FIXTURE / source).schedule


@pytest.mark.parametrize("to", LAYOUTS)
def test_the_converted_model_is_the_model(tmp_path: Path, to: str) -> None:
    report = convert(FIXTURE / "modelscope", tmp_path / "m", to)
    before, after = load_components(FIXTURE / "modelscope"), load_components(tmp_path / "m")
    assert before.model_hash == after.model_hash
    assert torch.equal(before.tokenizer(PROMPT).ids, after.tokenizer(PROMPT).ids)
    assert report.tensors == 550 + 176 + 28
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "m").rglob("*") if path.is_file())


def test_every_published_tensor_that_both_hold_comes_back(tmp_path: Path) -> None:
    convert(FIXTURE / "modelscope", tmp_path / "df", "diffusers")
    convert(tmp_path / "df", tmp_path / "ms", "modelscope")
    before, after = tensors(FIXTURE / "modelscope"), tensors(tmp_path / "ms")
    assert set(after) < set(before)
    assert all(torch.equal(before[key], after[key]) for key in after)
    unet = [key for key in before if key.startswith("text2video")]
    assert set(unet) == {key for key in after if key.startswith("text2video")}


def test_the_report_names_what_is_left_out_and_what_cannot_be_held(tmp_path: Path) -> None:
    report = convert(FIXTURE / "modelscope", tmp_path / "m", "modelscope")
    said = "; ".join(report.left_out)
    for name in ("visual.* (20 tensors)", "logit_scale", "transformer.resblocks.2.* (12 tensors)"):
        assert name in said
    assert "open_clip_pytorch_model.bin: text_projection" in report.left_out
    assert any("the layer that does not run" in line for line in report.cannot_hold)
    assert convert(FIXTURE / "diffusers", tmp_path / "n", "native").cannot_hold == ()


def test_a_spacing_that_modelscope_cannot_hold_is_named(tmp_path: Path, copy: Copy) -> None:
    folder = copy("diffusers")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timestep_spacing": "leading"}))
    report = convert(folder, tmp_path / "m", "modelscope")
    assert "schedule: spacing" in report.cannot_hold
    convert(folder, tmp_path / "d", "diffusers")
    assert load_components(tmp_path / "d").schedule.spacing == "leading"


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_numbers_are_written_in_the_format_asked_for(tmp_path: Path, to: str, dtype: str) -> None:
    report = convert(FIXTURE / "diffusers", tmp_path / "m", to, dtype)
    assert report.dtype == dtype
    assert {str(t.dtype) for t in tensors(tmp_path / "m").values()} == {f"torch.{dtype}"}


def test_numbers_that_do_not_fit_leave_no_folder(tmp_path: Path, copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "text2video_pytorch_model.pth"
    state = torch.load(path, weights_only=True)
    torch.save({name: t.float() for name, t in state.items()} | {"out.2.bias": torch.full((4,), 1e6)}, path)
    with pytest.raises(NumbersError, match="not finite in float16"):
        convert(folder, tmp_path / "m", "native", "float16")
    assert not (tmp_path / "m").exists()


def test_bad_numbers_are_refused(tmp_path: Path, copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "text2video_pytorch_model.pth"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"out.2.bias": torch.full((4,), float("nan"))}, path)
    with pytest.raises(NumbersError, match="head.bias|out.2.bias"):
        convert(folder, tmp_path / "m")


@pytest.mark.parametrize("to", ["diffusers", "modelscope"])
def test_what_a_layout_cannot_express_is_refused_in_words(
    tmp_path: Path, to: str, components: Components
) -> None:
    schedule = replace(components.schedule, kind="logsnr_cosine_interpolated", prediction="velocity")
    save_native(
        tmp_path / "m",
        unet=components.unet,
        vae=components.vae,
        text=components.text,
        tokenizer=components.tokenizer,
        schedule=schedule,
        spec=components.spec,
    )
    with pytest.raises(
        WeightsError, match=rf"the {to} layout cannot hold this model: .*vocabulary is compact"
    ):
        convert(tmp_path / "m", tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_an_unknown_layout_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "x").touch()
    with pytest.raises(OptionError, match="exists already"):
        convert(FIXTURE / "diffusers", tmp_path / "m")
    with pytest.raises(OptionError, match="to='onnx'"):
        convert(FIXTURE / "diffusers", tmp_path / "n", "onnx")
    with pytest.raises(OptionError, match="dtype='fp8'"):
        convert(FIXTURE / "diffusers", tmp_path / "n", dtype="fp8")


def test_a_half_full_folder_is_completed(tmp_path: Path, copy: Copy) -> None:
    folder = copy("modelscope")
    (folder / "VQGAN_autoencoder.pth").unlink()
    with pytest.raises(WeightsError, match="VQGAN_autoencoder"):
        convert(folder, tmp_path / "m")
    convert(folder, tmp_path / "m", base=FIXTURE / "diffusers")
    assert load_components(tmp_path / "m").model_hash == load_components(FIXTURE / "modelscope").model_hash


def test_a_damaged_source_of_ours_is_noticed(tmp_path: Path) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "m")
    path = tmp_path / "m" / "unet.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="changed"):
        convert(tmp_path / "m", tmp_path / "n", "diffusers")


def test_loras_become_part_of_the_model(tmp_path: Path) -> None:
    table = lora_files.factors()
    path = lora_files.diffusers(tmp_path / "style.safetensors", table)
    report = convert(
        FIXTURE / "diffusers", tmp_path / "m", dtype="float32", loras=[(path, 0.5), (path, 0.25)]
    )
    assert report.loras == tuple(
        f"style.safetensors: matched {len(table)} of {len(table)} layers, rank 2 (PEFT), scale {scale}"
        for scale in (0.5, 0.25)
    )
    components = load_components(FIXTURE / "diffusers")
    made = load_components(tmp_path / "m", dtype=torch.float32)
    source = describe(FIXTURE / "diffusers", variant=None, spec=None)
    lora = read_lora(path, [part.config for part in (source.unet, source.text) if part is not None])
    components.to(dtype=torch.float16)
    components.adapters.add(lora.adapter, 0.75)
    for ours, theirs in ((components.unet, made.unet), (components.text, made.text)):
        assert ours is not None and theirs is not None
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name].float(), tensor, rtol=2e-3, atol=1e-5)
    assert made.model_hash != load_components(FIXTURE / "diffusers", dtype=torch.float32).model_hash


def test_a_lora_that_does_not_fit_leaves_no_folder(tmp_path: Path) -> None:
    wide = {name: (down[:, :-1], up) for name, (down, up) in lora_files.factors().items()}
    with pytest.raises(WeightsError, match="made for another model"):
        convert(
            FIXTURE / "diffusers",
            tmp_path / "m",
            loras=[(lora_files.kohya(tmp_path / "k.safetensors", wide), 1.0)],
        )
    huge = lora_files.kohya(tmp_path / "h.safetensors", lora_files.factors(size=1e25))
    with pytest.raises(NumbersError, match="too large for its format"):
        convert(FIXTURE / "diffusers", tmp_path / "m", loras=[(huge, 1.0)])
    assert not (tmp_path / "m").exists()
