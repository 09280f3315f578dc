"""A folder is there whole, or not at all."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from kinescribe.checkpoints.staging import converted, staged, write_tensors
from kinescribe.errors import NumbersError, OptionError, WriteError


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    with staged(tmp_path / "a" / "m") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("1")
        assert not (tmp_path / "a" / "m").exists()
    assert (tmp_path / "a" / "m" / "sub" / "x").read_text() == "1"
    assert names(tmp_path / "a") == ["m"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged(tmp_path / "m") as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    with staged(tmp_path / "m") as folder:
        (folder / "x").write_text("old")
    with pytest.raises(RuntimeError), staged(tmp_path / "m", overwrite=True) as folder:
        (folder / "x").write_text("new")
        raise RuntimeError
    assert (tmp_path / "m" / "x").read_text() == "old"


def test_overwriting_leaves_no_old_file(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with staged(tmp_path / "m", overwrite=True) as folder:
            (folder / name).touch()
    assert names(tmp_path / "m") == ["new"]
    assert names(tmp_path) == ["m"]


def test_an_empty_folder_may_be_filled_a_full_one_not(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with staged(tmp_path / "m") as folder:
        (folder / "x").touch()
    with pytest.raises(OptionError, match="--overwrite"), staged(tmp_path / "m"):
        pass


def test_a_place_that_cannot_be_written_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="choose another folder"), staged(tmp_path / "file" / "m"):
        pass


def test_a_full_disk_is_a_write_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No space left"), staged(tmp_path / "m"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_files_get_ordinary_rights(tmp_path: Path) -> None:
    with staged(tmp_path / "m") as folder:
        (folder / "x").touch(mode=0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "m" / "x").stat().st_mode & 0o777 == 0o666 & ~mask


def test_converted_tensors_own_their_memory() -> None:
    whole = torch.arange(6.0)
    items = dict(converted([("a", whole[:2]), ("n", torch.arange(2))], dtype=torch.float16))
    assert items["a"].untyped_storage().nbytes() == 4
    assert items["n"].dtype == torch.int64


def test_numbers_that_overflow_are_an_error() -> None:
    with pytest.raises(NumbersError, match="not finite in float16"):
        list(converted([("a", torch.tensor([1e6]))], dtype=torch.float16))


def test_a_disk_that_fills_while_tensors_are_written_is_a_write_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(WriteError, match=r"\(No space left on device\)"), staged(tmp_path / "m") as folder:
        write_tensors(folder / "x.safetensors", [("a", torch.ones(1))], dtype=None)
    assert names(tmp_path) == []
