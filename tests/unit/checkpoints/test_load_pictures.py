"""Loading what shares files: opened once, in the right place, checked against each other."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from goldens import folder
from kinescribe.checkpoints import load
from kinescribe.checkpoints.load import load_components
from kinescribe.errors import OptionError, WeightsError

Copy = Callable[..., Path]
FOLDER = "image_and_video_to_video"


@pytest.mark.parametrize(("name", "files"), [("i2v", 3), ("v2v", 3), ("i2vgen-xl", 4)])
def test_files_that_parts_share_are_opened_once(
    name: str, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    read = load.open_weights
    monkeypatch.setattr(load, "open_weights", lambda paths: opened.append(paths) or read(paths))
    load_components(folder(f"{FOLDER}/{name}"))
    assert len(opened) == len(set(opened)) == files


def test_all_parts_take_one_dtype_and_need_no_gradient() -> None:
    parts = load_components(folder(f"{FOLDER}/i2vgen-xl"), dtype=torch.bfloat16)
    assert len(parts.networks) == 5
    for network in parts.networks:
        assert not network.training
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
        assert not any(p.requires_grad for p in network.parameters())


def test_a_model_that_reads_no_text_says_so() -> None:
    parts = load_components(folder(f"{FOLDER}/i2v"))
    assert len(parts.networks) == 4
    with pytest.raises(OptionError, match="i2v reads no text"):
        parts.require_text()


def test_an_image_tower_of_another_width_is_refused(copy: Copy) -> None:
    path = copy("i2vgen-xl")
    file = path / "image_encoder" / "model.fp16.safetensors"
    state = load_file(file)
    state["visual_projection.weight"] = torch.zeros(24, 32, dtype=torch.float16)
    save_file(state, file)
    config = path / "image_encoder" / "config.json"
    config.write_text(config.read_text().replace('"projection_dim": 16', '"projection_dim": 24'))
    with pytest.raises(WeightsError, match="image tower gives 24 numbers, its conditions take 16"):
        load_components(path)


def test_a_bad_number_of_the_conditions_names_file_and_key(copy: Copy) -> None:
    path = copy("i2v")
    file = path / "base_03_alldata_fps_v_80g_0789000.pth"
    content = torch.load(file, weights_only=True)
    content["state_dict"]["fps_embedding.2.bias"][3] = float("nan")
    torch.save(content, file)
    with pytest.raises(WeightsError, match="pth: fps_embedding.2.bias holds numbers that are not finite"):
        load_components(path)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "base_03_alldata_fps_v_80g_0789000.pth"])
def test_a_missing_shared_file_is_named_once(copy: Copy, name: str) -> None:
    path = copy("i2v")
    (path / name).unlink()
    with pytest.raises(WeightsError) as caught:
        load_components(path)
    assert str(caught.value).count(name) == 1
