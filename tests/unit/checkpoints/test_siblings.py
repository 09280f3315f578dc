"""A part that two embedded models share lies in one of their folders, and only its very bytes are taken."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from kinescribe.checkpoints.check import check_folder, verify
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.siblings import share, shared_sums
from kinescribe.errors import WeightsError

PAPERCUT = Path(__file__).parents[3] / "src" / "kinescribe" / "assets" / "papercut"
CONFIG = "kinescribe.json"


@pytest.fixture
def sister(tmp_path: Path) -> Path:
    """A second copy of the embedded model beside the first, its autoencoder and text tower shared."""
    shutil.copytree(PAPERCUT, tmp_path / "papercut")
    folder = Path(shutil.copytree(PAPERCUT, tmp_path / "sister"))
    assert share(folder / CONFIG, "papercut") == ("text", "vae")
    return folder


def test_a_model_with_shared_parts_is_smaller_and_the_same(sister: Path) -> None:
    assert sorted(path.name for path in sister.glob("*.safetensors")) == ["unet.safetensors"]
    ours, theirs = load_components(sister), load_components(PAPERCUT)
    assert ours.model_hash == theirs.model_hash
    assert torch.equal(ours.vae.quantise.weight, theirs.vae.quantise.weight)
    assert check_folder(sister).ok
    report = verify(sister)
    assert report.ok and report.recorded
    assert {file.path.name for file in report.files} == {f"{n}.safetensors" for n in ("unet", "vae", "text")}


def test_parts_that_differ_are_not_shared(tmp_path: Path) -> None:
    shutil.copytree(PAPERCUT, tmp_path / "papercut")
    folder = Path(shutil.copytree(PAPERCUT, tmp_path / "sister"))
    document = json.loads((folder / CONFIG).read_text())
    document["files"]["vae.safetensors"]["sha256"] = "0" * 64
    (folder / CONFIG).write_text(json.dumps(document))
    assert share(folder / CONFIG, "papercut") == ("text",)
    assert (folder / "vae.safetensors").is_file()


def test_another_file_in_the_place_of_a_shared_part_is_noticed(sister: Path) -> None:
    load_components(sister)
    path = sister.parent / "papercut" / "vae.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"vae\.safetensors: changed"):
        load_components(sister)


def test_a_shared_part_that_is_not_there_is_named(sister: Path) -> None:
    shutil.rmtree(sister.parent / "papercut")
    with pytest.raises(WeightsError, match=r"papercut/\w+\.safetensors"):
        load_components(sister)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("vae", {"from": "../../elsewhere"}),
        ("vae", {"from": "/etc"}),
        ("vae", {"from": "modelscope-1.7b"}),
        ("vae", {"from": None}),
        ("vae", {"sha256": ""}),
        ("unet", {}),
        ("conditions", {}),
        ("../vae", {}),
    ],
)
def test_only_parts_of_embedded_models_are_shared(sister: Path, part: str, change: dict[str, object]) -> None:
    document = json.loads((sister / CONFIG).read_text())
    document["shared"] = {part: document["shared"]["vae"] | change}
    (sister / CONFIG).write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="shared parts are malformed") as caught:
        load_components(sister)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none_is_refused(sister: Path) -> None:
    (sister / CONFIG).write_text(json.dumps({"shared": ["vae"]}))
    with pytest.raises(WeightsError, match="malformed"):
        shared_sums(sister / CONFIG)
