"""Bare weight files: what they were trained for must be known, or be said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from goldens import folder
from kinescribe.checkpoints.load import load_components
from kinescribe.errors import WeightsError

Copy = Callable[..., Path]
FOLDER = folder("text_to_video/modelscope")


def bare(copy: Copy, name: str) -> Path:
    """The fixture's UNet under another name, beside its configuration and the other two networks."""
    folder = copy("modelscope", "models")
    (folder / "text2video_pytorch_model.pth").replace(folder / name)
    return folder / name


def test_an_unknown_file_lists_the_choices(copy: Copy) -> None:
    with pytest.raises(WeightsError, match="name the model it is, one of modelscope-1.7b.*vgen-t2v"):
        load_components(bare(copy, "non_ema_00035000.pth"))


def test_a_named_family_decides_the_schedule(copy: Copy) -> None:
    path = bare(copy, "non_ema_00035000.pth")
    noise = load_components(path, as_model="modelscope-1.7b")
    velocity = load_components(path, as_model="vgen-t2v")
    assert noise.schedule == load_components(FOLDER).schedule
    assert (velocity.schedule.kind, velocity.schedule.prediction) == ("cosine", "velocity")
    assert velocity.schedule.zero_terminal_snr
    assert noise.model_hash == velocity.model_hash == load_components(FOLDER).model_hash


@pytest.mark.parametrize("name", ["model_scope_0267000.pth", "model_scope_v1-4_0600000.pth"])
def test_published_names_are_known(copy: Copy, name: str) -> None:
    path = bare(copy, name)
    assert load_components(path).schedule == load_components(FOLDER).schedule
    (path.parent / "configuration.json").replace(path.parent / "elsewhere.json")
    with pytest.raises(WeightsError, match="wrong shape"):  # without it the published sizes are meant
        load_components(path.parent)


def test_a_row_that_is_no_bare_file_is_refused(copy: Copy) -> None:
    with pytest.raises(WeightsError, match="papercut is no model of bare weight files"):
        load_components(bare(copy, "x.pth"), as_model="papercut")


def test_vgens_own_name_of_the_autoencoder_is_known(copy: Copy) -> None:
    path = bare(copy, "model_scope_0267000.pth")
    (path.parent / "VQGAN_autoencoder.pth").replace(path.parent / "v2-1_512-ema-pruned.ckpt")
    assert load_components(path).model_hash == load_components(FOLDER).model_hash


def test_averaged_weights_are_gathered_from_all_ranks(copy: Copy) -> None:
    folder = copy("modelscope")
    state = torch.load(folder / "text2video_pytorch_model.pth", weights_only=True)
    names = list(state)
    for rank in range(3):
        part = {name: state[name] for name in names[rank::3]}
        torch.save({"state_dict": part, "step": 5}, folder / f"ema_00000005_rank{rank:04d}.pth")
    torch.save({"state_dict": {}}, folder / "ema_00000009_rank0000.pth")
    loaded = load_components(folder / "ema_00000005_rank0001.pth", as_model="modelscope-1.7b")
    assert loaded.model_hash == load_components(FOLDER).model_hash


def test_a_bare_file_alone_is_completed_from_a_folder(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "text2video_pytorch_model.pth", tmp_path / "mine.pth")
    shutil.copy(FOLDER / "configuration.json", tmp_path)
    with pytest.raises(WeightsError, match="missing .*VQGAN_autoencoder.pth"):
        load_components(tmp_path / "mine.pth", as_model="modelscope-1.7b")
    loaded = load_components(tmp_path / "mine.pth", as_model="modelscope-1.7b", base=FOLDER)
    assert loaded.model_hash == load_components(FOLDER).model_hash


def test_a_file_beside_the_configuration_of_another_task_is_refused(copy: Copy) -> None:
    path = bare(copy, "non_ema_0035000.pth")
    configuration = path.parent / "configuration.json"
    configuration.write_text(json.dumps({"task": "video-to-video", "model": {}}))
    with pytest.raises(WeightsError, match="'video-to-video'"):
        load_components(path, as_model="modelscope-1.7b")
