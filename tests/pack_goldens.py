"""Pack a family of reference model folders for `goldens.py`.

    python tests/pack_goldens.py REFERENCE tests/fixtures/FAMILY

Files at the top of REFERENCE and files without weights are copied. Weights go to `weights.xz`, every number
once, as the low bytes and then the high bytes of one array of float16: only the high ones can be compressed.
`weights.json` repeats the nesting of each file; a tensor in it is [dtype, where its numbers begin, *shape].
"""

import argparse
import json
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

WEIGHTS = {".safetensors", ".pth", ".bin", ".ckpt"}


def pack(reference: Path, packed: Path) -> None:
    """Write `packed`, from which `goldens.assemble` makes the folders of `reference` again."""
    tensors: list[tuple[Tensor, list[Any]]] = []
    table: dict[str, Any] = {}
    for path in sorted(path for path in reference.rglob("*") if path.is_file()):
        name = path.relative_to(reference)
        if path.suffix in WEIGHTS and path.parent != reference:
            table[name.as_posix()] = _entry(_content(path), tensors)
        else:
            (packed / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, packed / name)
    planes = np.frombuffer(_place(tensors), np.uint8).reshape(-1, 2).T
    (packed / "weights.xz").write_bytes(lzma.compress(planes.tobytes(), preset=9))
    (packed / "weights.json").write_text(_a_line_each(table), encoding="utf-8")


def _content(path: Path) -> dict[str, Any]:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        names = {"__metadata__": metadata} if metadata else {}
        return names | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _entry(content: Any, tensors: list[tuple[Tensor, list[Any]]]) -> Any:
    if isinstance(content, dict):
        return {key: _entry(inner, tensors) for key, inner in content.items()}
    if not isinstance(content, Tensor):
        assert content is None or isinstance(content, (str, int, float)), f"cannot pack a {type(content)}"
        return content
    entry = [str(content.dtype).removeprefix("torch."), 0, *content.shape]
    tensors.append((content, entry))
    return entry


def _place(tensors: list[tuple[Tensor, list[Any]]]) -> bytes:
    """Return all numbers, and write into every entry where its own begin."""
    stored = bytearray()
    # Large ones first: the smaller are then found inside, such as the three parts of a stacked projection.
    for tensor, entry in sorted(tensors, key=lambda pair: -pair[0].numel()):
        half = tensor.to(torch.float16)
        same = half.to(tensor.dtype).numpy().tobytes() == tensor.numpy().tobytes()
        assert same, f"float16 cannot hold the {entry[0]} numbers of a tensor"
        piece = half.numpy().tobytes()
        at = stored.find(piece)
        while at > 0 and at % 2:
            at = stored.find(piece, at + 1)
        if at < 0:
            at = len(stored)
            stored += piece
        entry[1] = at // 2
    return bytes(stored)


def _a_line_each(table: dict[str, Any]) -> str:
    return re.sub(r"\[[^]]*\]", lambda found: "".join(found[0].split()), json.dumps(table, indent=1)) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", type=Path)
    parser.add_argument("packed", type=Path)
    pack(**vars(parser.parse_args()))
