"""Small random-weight models in the published layouts, and what reference code made of them.

`fixtures/FAMILY` holds model folders without their weights: the layouts repeat the same numbers, and
`weights.xz` has each of them once. `weights.json` says which numbers are which tensor of which file.
`pack_goldens.py` wrote both from the reference folders alone, so they know nothing of the code under test.
"""

import functools
import json
import lzma
import shutil
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"


def folder(name: str) -> Path:
    """Return a complete model folder, such as `text_to_video/diffusers`; copy it before changing a file."""
    family, _, inner = name.partition("/")
    return _assembled(family) / inner


def expected(family: str) -> dict[str, Tensor]:
    """Return what reference code computed from the models of a family, such as `text_to_video`."""
    return load_file(FIXTURES / family / "expected.safetensors")


def assemble(packed: Path, target: Path) -> None:
    """Write the reference folders that were packed into `packed`."""
    shutil.copytree(packed, target, ignore=shutil.ignore_patterns("weights.*"))
    planes = np.frombuffer(lzma.decompress((packed / "weights.xz").read_bytes()), np.uint8)
    numbers = torch.from_numpy(planes.reshape(2, -1).T.copy().view(np.float16).ravel())
    table = json.loads((packed / "weights.json").read_text(encoding="utf-8"))
    for name, entries in table.items():
        content = _tensors(entries, numbers)
        (target / name).parent.mkdir(exist_ok=True)
        if name.endswith(".safetensors"):
            metadata = content.pop("__metadata__", None)
            save_file(content, target / name, metadata)
        else:
            torch.save(content, target / name)


@functools.cache
def _assembled(family: str) -> Path:
    target = Path(_temporary().name) / family
    assemble(FIXTURES / family, target)
    return target


@functools.cache
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="kinescribe-goldens-")


def _tensors(entry: Any, numbers: Tensor) -> Any:
    if isinstance(entry, dict):
        return {key: _tensors(inner, numbers) for key, inner in entry.items()}
    if not isinstance(entry, list):
        return entry
    dtype, at, *shape = entry
    # A clone, because pickling a view would write all numbers.
    return numbers[at : at + prod(shape)].reshape(shape).clone().to(getattr(torch, dtype))
