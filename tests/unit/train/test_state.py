import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinescribe.errors import DataError
from kinescribe.train.state import Facts, newest, save

KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import torch
from kinescribe.checkpoints import staging
from kinescribe.train.state import Facts, save

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

facts = dict(seconds=1.0, samples=1, world=1, config="c")
save(Path(sys.argv[1]), Facts(step=1, **facts), {"x": torch.tensor([1.0])}, keep=2)
setattr(staging, sys.argv[2], die)
save(Path(sys.argv[1]), Facts(step=2, **facts), {"x": torch.tensor([2.0])}, keep=2)
"""


def facts(step: int) -> Facts:
    return Facts(step=step, seconds=1.5, samples=8 * step, world=1, config="c")


def ignore(_: str) -> None:
    pass


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    tensors = {
        "w": torch.randn(3, 3).t(),
        "random": torch.arange(5, dtype=torch.uint8),
        "step": torch.tensor(2.0),
    }
    save(tmp_path, facts(7), tensors, keep=2)
    found = newest(tmp_path, ignore)
    assert found is not None
    assert found.facts == facts(7)
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())


def test_an_empty_or_absent_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path, ignore) is None
    assert newest(tmp_path / "absent", ignore) is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save(tmp_path, facts(step), {"x": torch.tensor([float(step)])}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000030"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "facts"])
def test_a_damaged_newest_gives_way_to_the_one_before_and_is_named(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save(tmp_path, facts(step), {"x": torch.tensor([float(step)])}, keep=2)
    file = tmp_path / "step-00000002" / ("state.json" if damage == "facts" else "state.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if damage in ("cut", "facts") else data)
    said: list[str] = []
    found = newest(tmp_path, said.append)
    assert found is not None
    assert found.facts.step == 1
    assert "step-00000002 is damaged" in said[0]


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    (save(tmp_path, facts(1), {"x": torch.ones(1)}, keep=2) / "state.json").write_text("{")
    with pytest.raises(DataError, match="all 1 checkpoints"):
        newest(tmp_path, ignore)


@pytest.mark.parametrize("moment", ["flush", "_swap"])
def test_a_kill_while_saving_leaves_the_previous_usable(tmp_path: Path, moment: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path), moment], check=False)
    assert ended.returncode == -signal.SIGKILL
    if moment == "flush":  # the first save already dies there
        assert newest(tmp_path, ignore) is not None
    found = newest(tmp_path, ignore)
    assert found is not None
    assert found.tensors["x"].item() == 1.0
    save(tmp_path, facts(3), {"x": torch.tensor([3.0])}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]
