"""Weight files are read without running anything in them, and only what is asked for."""

import argparse
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kinescribe.checkpoints.read import is_finite, open_weights
from kinescribe.errors import WeightsError


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Stranger:
    """A harmless class that no published file holds."""


def foreign(name: str) -> Any:
    """An instance of a class of another package, which is there while it is pickled only."""
    module, _, cls = name.rpartition(".")
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    kind = type(cls, (), {"__module__": module})
    setattr(sys.modules[module], cls, kind)
    made = kind()
    made.best = 3
    return made


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["m.pth", "m.bin", "m.ckpt"])
def test_archives_of_tensors_are_read(tmp_path: Path, zipped: bool, name: str) -> None:
    state = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16)}
    torch.save({"state_dict": state, "step": 7}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    weights = open_weights([tmp_path / name])
    assert weights.shapes == {"a": (3,), "b": (2, 2)}
    assert weights.dtype == torch.float16
    assert torch.equal(weights.read("a"), state["a"])


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_leaves_no_trace(tmp_path: Path, zipped: bool) -> None:
    marker, path = tmp_path / "marker", tmp_path / "m.pth"
    torch.save({"a": torch.ones(1), "b": Hostile(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"m\.pth: refused, its pickle wants to call posix\.system"):
        open_weights([path])
    assert not marker.exists()


def test_a_hostile_bare_pickle_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "m.bin"
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(WeightsError, match="refused|cut off"):
        open_weights([path])
    assert not marker.exists()


def test_an_unknown_class_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": Stranger()}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match=r"wants to call .*\.Stranger"):
        open_weights([tmp_path / "m.pth"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.nodes.AnyNode",
    ],
)
def test_known_classes_of_training_frameworks_become_empty(tmp_path: Path, name: str, zipped: bool) -> None:
    thing = foreign(name)
    content = {"state_dict": {"a": torch.ones(1)}, "callbacks": {type(thing): {"path": "x"}}, "more": [thing]}
    torch.save(content, tmp_path / "m.ckpt", _use_new_zipfile_serialization=zipped)
    for module in [module for module in sys.modules if module.startswith(name.split(".")[0])]:
        del sys.modules[module]
    assert open_weights([tmp_path / "m.ckpt"]).shapes == {"a": (1,)}
    assert name.split(".")[0] not in sys.modules


def test_numpy_numbers_and_namespaces_in_a_checkpoint_are_no_fault(tmp_path: Path) -> None:
    import numpy as np

    extra = {
        "best": np.float64(0.5),
        "table": np.zeros(3),
        "args": argparse.Namespace(lr=1e-4),
        "at": Path("x"),
    }
    torch.save({"state_dict": {"a": torch.ones(1)}, **extra}, tmp_path / "m.ckpt")
    assert list(open_weights([tmp_path / "m.ckpt"]).shapes) == ["a"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_archive_tells_so(tmp_path: Path, share: float) -> None:
    path = tmp_path / "m.pth"
    torch.save({"a": torch.ones(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match=r"m\.pth: .*(cut off|refused)") as caught:
        open_weights([path])
    assert "\n" not in str(caught.value)


def test_random_bytes_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(WeightsError):
        open_weights([path])


def test_an_archive_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"step": 3}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match="no tensors"):
        open_weights([tmp_path / "m.pth"])
    torch.save([torch.ones(1), 2.0], tmp_path / "m.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        open_weights([tmp_path / "m.pth"])


def test_in_a_list_of_tensors_places_are_names(tmp_path: Path) -> None:
    torch.save([torch.ones(1), torch.zeros(2, 3)], tmp_path / "m.pt")
    weights = open_weights([tmp_path / "m.pt"])
    assert weights.shapes == {"0": (1,), "1": (2, 3)}
    assert torch.equal(weights.read("0"), torch.ones(1))


def test_safetensors_under_another_ending_is_known_by_its_content(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "m.bin")
    assert open_weights([tmp_path / "m.bin"]).shapes == {"a": (2,)}


def test_shards_are_one_and_may_not_overlap(tmp_path: Path) -> None:
    for name, key in (("1", "a"), ("2", "b"), ("3", "a")):
        save_file({key: torch.full((1,), float(name))}, tmp_path / f"{name}.safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in "12"]
    weights = open_weights(files)
    assert [weights.read(key).item() for key in "ab"] == [1.0, 2.0]
    with pytest.raises(WeightsError, match="a is in 1.safetensors too"):
        open_weights([*files, tmp_path / "3.safetensors"])


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"m\.pth: cannot be read"):
        open_weights([tmp_path / "m.pth"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_in_a_million_is_found(dtype: torch.dtype, bad: float) -> None:
    numbers = torch.full((1_000_000,), 6e4).to(dtype)
    assert is_finite(numbers)
    numbers[777_777] = bad
    assert not is_finite(numbers)


def test_integers_and_nothing_are_finite() -> None:
    assert is_finite(torch.arange(3))
    assert is_finite(torch.zeros(0))
