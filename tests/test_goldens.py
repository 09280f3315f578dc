"""The stored models are packed without loss: the same files, names, numbers and nesting come out."""

import lzma
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from goldens import FIXTURES, assemble, folder
from pack_goldens import pack

BUDGET = 12_000_000


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Two layouts of the same numbers: a stack in a pickle, its parts and an integer in a safetensors file."""
    torch.manual_seed(0)
    stack = torch.randn(6, 5).half()
    (tmp_path / "reference" / "a").mkdir(parents=True)
    (tmp_path / "reference" / "b").mkdir()
    across = torch.frombuffer(bytearray(stack.numpy().tobytes()[1:3]), dtype=torch.float16)
    nested = {"state_dict": {"qkv": stack, "half_of_two": across, "zero": torch.tensor(-0.0)}, "step": 7}
    torch.save(nested, tmp_path / "reference" / "a" / "model.pth")
    parts = dict(zip("qkv", stack.float().split(2), strict=True)) | {"ids": torch.arange(5)[None]}
    save_file(parts, tmp_path / "reference" / "b" / "model.safetensors", {"format": "pt"})
    (tmp_path / "reference" / "b" / "config.json").write_text("{}")
    save_file({"third": torch.tensor(1 / 3)}, tmp_path / "reference" / "expected.safetensors")
    return tmp_path / "reference"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_packed_folders_come_out_as_they_were(reference: Path, tmp_path: Path) -> None:
    pack(reference, tmp_path / "packed")
    assemble(tmp_path / "packed", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(reference)


def test_each_number_is_stored_once(reference: Path, tmp_path: Path) -> None:
    pack(reference, tmp_path / "packed")
    stored = lzma.decompress((tmp_path / "packed" / "weights.xz").read_bytes())
    stack, across, zero, ids = 30, 1, 1, 5
    assert len(stored) == 2 * (stack + across + zero + ids)


def test_numbers_that_would_change_are_refused(reference: Path, tmp_path: Path) -> None:
    save_file({"third": torch.tensor(1 / 3)}, reference / "b" / "model.safetensors")
    with pytest.raises(AssertionError, match="float16 cannot hold"):
        pack(reference, tmp_path / "packed")


def test_the_stored_models_stay_small() -> None:
    assert sum(map(len, contents(FIXTURES).values())) < BUDGET


@pytest.mark.parametrize("name", ["text_to_video/modelscope", "image_and_video_to_video/i2v"])
def test_a_folder_is_assembled_once_and_complete(name: str) -> None:
    path = folder(name)
    assert folder(name) == path
    assert not path.is_relative_to(FIXTURES)
    assert {".json", ".bin"} < {file.suffix for file in path.iterdir()}
