"""The report on a folder: every expected file by name and state, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from goldens import folder
from kinescribe.checkpoints.check import FolderReport, check_folder, verify
from kinescribe.checkpoints.convert import convert
from kinescribe.errors import WeightsError

Copy = Callable[..., Path]
FIXTURE = folder("text_to_video")
DIFFUSERS_FILES = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}
MODELSCOPE_FILES = {
    "configuration.json",
    "text2video_pytorch_model.pth",
    "VQGAN_autoencoder.pth",
    "open_clip_pytorch_model.bin",
}


def states(report: FolderReport) -> dict[str, str]:
    return {item.name: item.state for item in report.items}


@pytest.mark.parametrize(
    ("layout", "files"), [("diffusers", DIFFUSERS_FILES), ("modelscope", MODELSCOPE_FILES)]
)
def test_a_whole_folder_is_all_found(layout: str, files: set[str]) -> None:
    report = check_folder(FIXTURE / layout)
    assert report.ok
    assert report.layout == layout
    assert states(report) == dict.fromkeys(files, "found")
    assert report.advice == ()
    assert any("550 tensors" in item.detail for item in report.items)
    assert all(item.bytes > 0 for item in report.items)


def test_our_own_folder_is_found(tmp_path: Path) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "m")
    report = check_folder(tmp_path / "m")
    assert report.ok
    assert report.layout == "native"
    assert set(states(report)) == {
        "kinescribe.json",
        "unet.safetensors",
        "vae.safetensors",
        "text.safetensors",
    }


@pytest.mark.parametrize("name", sorted(DIFFUSERS_FILES - {"model_index.json"}))
def test_each_missing_file_of_a_diffusers_folder_is_named(copy: Copy, name: str) -> None:
    folder = copy("diffusers")
    for path in folder.rglob("*.fp16.safetensors"):
        path.unlink()
    (folder / name).unlink()
    report = check_folder(folder)
    assert states(report) == dict.fromkeys(DIFFUSERS_FILES, "found") | {name: "missing"}
    assert not report.ok
    assert report.advice


@pytest.mark.parametrize("name", sorted(MODELSCOPE_FILES - {"configuration.json"}))
def test_each_missing_file_of_a_modelscope_folder_is_named(copy: Copy, name: str) -> None:
    folder = copy("modelscope")
    (folder / name).unlink()
    report = check_folder(folder)
    assert states(report)[name] == "missing"
    assert not report.ok
    shared = name != "text2video_pytorch_model.pth"
    assert any(("any folder of modelscope-1.7b" in line) == shared for line in report.advice)


def test_a_web_ui_folder_says_what_is_missing_and_what_may_stand_in(tmp_path: Path) -> None:
    for name in ("text2video_pytorch_model.pth", "open_clip_pytorch_model.bin"):
        (tmp_path / name).write_bytes((FIXTURE / "modelscope" / name).read_bytes())
    report = check_folder(tmp_path)
    assert report.layout == "modelscope"
    found = states(report)
    assert found["configuration.json"] == "absent"
    assert found["VQGAN_autoencoder.pth"] == "missing"
    assert any("the autoencoder of any folder of modelscope-1.7b will do" in line for line in report.advice)


def test_a_wrong_shape_is_told_with_both_shapes(copy: Copy) -> None:
    folder = copy("diffusers")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_out.bias"] = torch.zeros(5)
    save_file(tensors, path)
    item = next(item for item in check_folder(folder).items if item.role == "unet")
    assert item.state == "wrong"
    assert "conv_out.bias is (5,), not (4,)" in item.detail


def test_damage_is_told(copy: Copy) -> None:
    folder = copy("modelscope")
    (folder / "VQGAN_autoencoder.pth").write_text("<html>")
    (folder / "configuration.json").write_text("{")
    found = states(check_folder(folder))
    assert found["configuration.json"] == "damaged"
    folder = copy("modelscope", "again")
    (folder / "VQGAN_autoencoder.pth").write_text("<html>")
    report = check_folder(folder)
    assert states(report)["VQGAN_autoencoder.pth"] == "damaged"
    assert any("web page" in item.detail for item in report.items)


def test_weights_of_a_relative_are_called_by_name(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "text2video_pytorch_model.pth"
    torch.save(torch.load(path, weights_only=True) | {"fps_embedding.0.weight": torch.zeros(1)}, path)
    item = next(item for item in check_folder(folder).items if item.role == "unet")
    assert item.state == "wrong"
    assert "image-to-video" in item.detail


def test_a_folder_of_another_task_is_wrong_though_its_files_are_there(copy: Copy) -> None:
    folder = copy("modelscope")
    path = folder / "configuration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "image-to-video"}))
    report = check_folder(folder)
    assert not report.ok
    assert report.kind == "image-to-video"
    told = next(item for item in report.items if item.role == "unet and conditions")
    assert told.state == "wrong"
    assert "a text-to-video or video-to-video UNet, not ModelScope Image-to-Video" in told.detail
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "image-captioning"}))
    report = check_folder(folder)
    assert not report.ok
    assert "'image-captioning'" in report.advice[0]


@pytest.mark.parametrize("what", ["empty", "nowhere", "text.txt", "unet", "parent"])
def test_no_model_folder_is_said_so(copy: Copy, tmp_path: Path, what: str) -> None:
    folder = copy("diffusers", "inner/model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    paths = {"unet": folder / "unet", "parent": folder.parent}
    report = check_folder(paths.get(what, tmp_path / what))
    assert report.layout is None
    assert not report.ok
    said = {"unet": "one part of a diffusers folder", "parent": "model in it is", "empty": "nothing"}
    assert said.get(what, "") in report.advice[0]


def test_a_published_name_is_recognised(copy: Copy) -> None:
    assert check_folder(copy("diffusers", "zeroscope_v2_XL")).model == "zeroscope-v2-xl"


def test_verify_names_the_changed_file(tmp_path: Path) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "m")
    report = verify(tmp_path / "m")
    assert report.ok
    assert report.recorded
    assert len(report.files) == 4 - 1 + (tmp_path / "m" / "tokenizer.json").is_file()
    path = tmp_path / "m" / "vae.safetensors"
    data = bytearray(path.read_bytes())
    data[1000] ^= 8
    stamp = path.stat()
    path.write_bytes(data)
    import os

    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # verify does not trust an earlier verdict
    report = verify(tmp_path / "m")
    assert not report.ok
    assert [v.path.name for v in report.files if v.state == "changed"] == ["vae.safetensors"]


def test_verify_without_sums_reads_every_number(copy: Copy) -> None:
    folder = copy("diffusers")
    report = verify(folder)
    assert report.ok
    assert not report.recorded
    assert {v.state for v in report.files} == {"unknown"}
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_out.bias"][0] = float("inf")
    save_file(tensors, path)
    report = verify(folder)
    assert not report.ok
    assert any("conv_out.bias" in v.detail for v in report.files)


def test_verify_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        verify(tmp_path)
