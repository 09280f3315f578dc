"""The state of a run on disk: atomic checkpoints that can be verified, and the newest good one on return.

A checkpoint is a folder `step-00000020` with `state.safetensors` (every tensor, random states among them) and
`state.json` (counters, and the SHA-256 of the tensors). It is written under a hidden name, flushed, and renamed: a
process killed at any moment leaves the previous checkpoint usable, and its remains are removed by the next save.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kinescribe.checkpoints.staging import save_tensors, staged
from kinescribe.errors import DataError

_TENSORS, _FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The plain numbers of a checkpoint; `config` is the hash of what must not change on resume."""

    step: int
    seconds: float
    samples: int
    world: int
    config: str


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint, in memory."""

    facts: Facts
    tensors: dict[str, Tensor]


def save(folder: Path, facts: Facts, tensors: dict[str, Tensor], *, keep: int) -> Path:
    """Write a checkpoint below `folder` and remove all but the `keep` newest."""
    final = folder / f"step-{facts.step:08d}"
    with staged(final, overwrite=True) as draft:
        owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_tensors(draft / _TENSORS, owned)
        record = {**asdict(facts), "sha256": _digest(draft / _TENSORS)}
        (draft / _FACTS).write_text(json.dumps(record), encoding="utf-8")
    for old in [*_found(folder)[keep:], *folder.glob(".step-*")]:
        shutil.rmtree(old)
    return final


def newest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None where there is none at all.

    Each damaged one is named through `say`. Raises `DataError` if all that exist are damaged.
    """
    found = _found(folder)
    for path in found:
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            say(f"checkpoint {path} is damaged ({error}): trying the one before")
    if found:
        raise DataError(
            f"all {len(found)} checkpoints in {folder} are damaged: use another run.folder to start anew"
        )
    return None


def _read(path: Path) -> Checkpoint:
    facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
    wanted, actual = facts.pop("sha256"), _digest(path / _TENSORS)
    if wanted != actual:
        raise ValueError(f"SHA-256 is {actual[:12]}, not {wanted[:12]}")
    return Checkpoint(Facts(**facts), load_file(path / _TENSORS))


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
