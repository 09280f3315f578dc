"""The report on folders of image and second-stage models: kind, files, and what is wrong with them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from goldens import folder
from kinescribe.checkpoints.check import FolderReport, check_folder, verify
from kinescribe.checkpoints.convert import convert

Copy = Callable[..., Path]
CLIP, LIGHTNING = "open_clip_pytorch_model.bin", "v2-1_512-ema-pruned.ckpt"
FILES = {
    "i2v": {"configuration.json", "base_03_alldata_fps_v_80g_0789000.pth", CLIP, LIGHTNING},
    "v2v": {"configuration.json", "non_ema_0035000.pth", CLIP, LIGHTNING},
    "i2vgen-xl": {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.fp16.safetensors",
        "feature_extractor/preprocessor_config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    },
}
KINDS = {"i2v": "image-to-video", "v2v": "video-to-video", "i2vgen-xl": "image-to-video"}


def states(report: FolderReport) -> dict[str, str]:
    return {item.name: item.state for item in report.items}


@pytest.mark.parametrize("name", FILES)
def test_a_whole_folder_is_all_found_once_and_told_for_what_it_is(name: str) -> None:
    report = check_folder(folder(f"image_and_video_to_video/{name}"))
    assert report.ok and report.advice == ()
    assert report.kind == KINDS[name]
    assert states(report) == dict.fromkeys(FILES[name], "found")
    assert len(report.items) == len(FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_each_missing_weight_file_is_named_with_what_stands_in(copy: Copy, name: str) -> None:
    path = copy(name)
    for file in sorted(FILES[name]):
        if file.endswith((".json", ".txt")):
            continue
        kept = (path / file).read_bytes()
        (path / file).unlink()
        report = check_folder(path)
        missing = file.replace(".fp16", "")
        assert [item.name for item in report.items if item.state == "missing"] == [missing]
        unet = "unet" in file or file.endswith(".pth")
        said = "the UNet is the model itself" if unet else "will do: copy the file"
        assert len(report.advice) == 1 and said in report.advice[0]
        (path / file).write_bytes(kept)
    assert check_folder(path).ok


def test_the_image_tower_is_named_with_its_own_stand_in(copy: Copy) -> None:
    path = copy("i2v")
    (path / CLIP).unlink()
    assert "the image tower of any folder of i2vgen-xl" in check_folder(path).advice[0]


def test_details_count_every_tensor_of_a_shared_file(copy: Copy) -> None:
    details = {item.name: item for item in check_folder(copy("i2v")).items}
    unet = details["base_03_alldata_fps_v_80g_0789000.pth"]
    assert (unet.role, unet.detail) == ("unet and conditions", "474 tensors, float16")
    assert details[CLIP].role == "vision"
    assert details[LIGHTNING].detail == "176 tensors, float16, 2 not needed"


def test_a_missing_preprocessor_is_no_fault(copy: Copy) -> None:
    path = copy("i2vgen-xl")
    (path / "feature_extractor" / "preprocessor_config.json").unlink()
    report = check_folder(path)
    assert report.ok
    assert states(report)["feature_extractor/preprocessor_config.json"] == "absent"


def test_the_kind_of_our_own_folder_is_told(tmp_path: Path) -> None:
    convert(folder("image_and_video_to_video/v2v"), tmp_path / "m")
    report = check_folder(tmp_path / "m")
    assert report.ok and report.kind == "video-to-video"
    document = json.loads((tmp_path / "m" / "kinescribe.json").read_text())
    (tmp_path / "m" / "kinescribe.json").write_text(json.dumps(document | {"kind": "x"}))
    assert check_folder(tmp_path / "m").kind is None


def test_a_shared_file_is_verified_once(copy: Copy) -> None:
    report = verify(copy("i2v"))
    assert report.ok
    assert len(report.files) == 3
