"""`python -m kinescribe.train.low_rank TUNED --base papercut --name papercut-quick --out DIR`: a tuned model as a LoRA.

What tuning changed in a UNet is written as products of low rank (Hu et al. 2021, arXiv 2106.09685), found by singular
value decomposition. Ranks differ by layer: of all singular values those are kept that hold most of the change for the
numbers that they cost. The folder holds the LoRA, in the words of diffusers, and shares all else with the embedded
model that was tuned. Biases and norms stay as they were.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.catalog import CATALOG, ModelSpec, model_spec
from kinescribe.checkpoints.files import read_json, sha256
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.load import load_components, locate, require_files
from kinescribe.checkpoints.native import describe_native, spec_table
from kinescribe.checkpoints.siblings import LENDABLE
from kinescribe.checkpoints.source import part
from kinescribe.checkpoints.staging import save_tensors, staged
from kinescribe.checkpoints.store import CONFIG_FILE
from kinescribe.errors import DataError, KinescribeError
from kinescribe.models.unet import UNet

LORA_FILE = "lora.safetensors"
CARD = "README.md"
Sides = tuple[Tensor, Tensor]
"""`down` (r, i) and `up` (o, r) of a change."""


def low_rank(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], numbers: int) -> dict[str, Sides]:
    """By the name of each weight the sides of its change, `numbers` in all at most; weights without a rank are absent.

    Vectors are left out. Raises `DataError` for weights of other names or shapes.
    """
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (base, tuned)]
    if shapes[0] != shapes[1]:
        raise DataError("the tuned model has other weights than its base: name the model that it was made of")
    found = {}
    for name, before in base.items():
        if before.ndim > 1:
            change = (tuned[name].float() - before.float()).flatten(1)
            found[name] = torch.linalg.svd(change, full_matrices=False)
    ranks = _ranks({name: values for name, (_, values, _) in found.items()}, base, numbers)
    return {
        name: (values[:rank, None] * down[:rank], up[:, :rank].contiguous())
        for name, (up, values, down) in found.items()
        if (rank := ranks[name])
    }


def _ranks(values: Mapping[str, Tensor], weights: Mapping[str, Tensor], numbers: int) -> dict[str, int]:
    """How many singular values of each weight are worth their numbers."""
    costs = {name: sum(weights[name].flatten(1).shape) for name in values}
    gains = sorted(
        ((float(value) ** 2 / costs[name], name) for name, row in values.items() for value in row),
        reverse=True,
    )
    ranks, left = dict.fromkeys(values, 0), numbers
    for gain, name in gains:
        if gain == 0 or costs[name] > left:
            break
        ranks[name] += 1
        left -= costs[name]
    return ranks


def kept_share(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], sides: Mapping[str, Sides]) -> float:
    """The share of the change that the sides hold, in squares."""
    whole = sum(float((tuned[name].float() - base[name].float()).square().sum()) for name in base)
    return sum(float(down.square().sum()) for down, _ in sides.values()) / whole if whole else 1.0


def named(unet: UNet, sides: Mapping[str, Sides]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file in fp16: `unet.LAYER.lora_A.weight` and `lora_B`, layers in the words of diffusers."""
    keymap = part(unet.config, layout="diffusers", files=(), wanted="", aliases=Aliases()).keymap
    for entry in keymap.entries:
        if entry.ours not in sides:
            continue
        (down, up), (layer,) = sides[entry.ours], (name.removesuffix(".weight") for name in entry.foreign)
        inside = keymap.shapes[entry.ours][1:]
        ones = (1,) * (len(inside) - 1)
        yield f"unet.{layer}.lora_A.weight", down.reshape(-1, *inside).half().contiguous()
        yield f"unet.{layer}.lora_B.weight", up.reshape(*up.shape, *ones).half().contiguous()


def write_low_rank(tuned: Path, base: str, spec: ModelSpec, numbers: int, out: Path) -> float:
    """Write the folder, whole or not at all, over an earlier one whose card stays; the share of the change it holds.

    Sampling is what the tuned model's folder says, name and description are those of `spec`. Raises `DataError` where
    the two models do not fit, and the errors of reading and writing folders.
    """
    if base not in CATALOG or not CATALOG[base].embedded:
        raise DataError(f"base={base}: only what is shared with an embedded model can be left out")
    home = locate(base)
    if not (out.parent / base / CONFIG_FILE).is_file():
        raise DataError(f"{out}: what is shared lies in {base} beside it: choose a place beside that folder")
    before, after = (load_components(folder, dtype=torch.float32).unet for folder in (home, tuned))
    states = before.state_dict(), after.state_dict()
    sides = low_rank(*states, numbers)
    document, theirs = read_json(tuned / CONFIG_FILE), read_json(home / CONFIG_FILE)["files"]
    with staged(out, overwrite=True) as folder:
        save_tensors(folder / LORA_FILE, dict(named(before, sides)))
        if (out / CARD).is_file():
            shutil.copy(out / CARD, folder / CARD)
        file = folder / LORA_FILE
        document |= {
            "spec": spec_table(spec),
            "lora": LORA_FILE,
            "files": {LORA_FILE: {"bytes": file.stat().st_size, "sha256": sha256(file)}},
            "shared": _shared(base, document, theirs),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    require_files(describe_native(out))
    return kept_share(*states, sides)


def _shared(base: str, document: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """What the folder takes from the embedded one; the tuned model must not differ in it but for the UNet."""
    names = {part: f"{part}.safetensors" for part in LENDABLE}
    if set(names.values()) != {name for name in theirs if name.endswith(".safetensors")}:
        raise DataError(f"base={base}: it does not hold UNet, autoencoder and text tower itself, and no more")
    other = [
        part for part, name in names.items() if part != "unet" and document["files"].get(name) != theirs[name]
    ]
    if other:
        raise DataError(
            f"the tuned model's {other[0]} is not that of {base}: name the model that it was made of"
        )
    return {part: {"from": base, **theirs[name]} for part, name in names.items()}


def main() -> int:
    """Write as the arguments say; the exit code of the error met, or 0."""
    parser = argparse.ArgumentParser(prog="python -m kinescribe.train.low_rank", description=__doc__)
    parser.add_argument("tuned", type=Path, help="the folder of the tuned model")
    parser.add_argument(
        "--base", default="papercut", help="the embedded model that was tuned (default papercut)"
    )
    parser.add_argument(
        "--name", default="papercut-quick", help="the row of the catalog (default papercut-quick)"
    )
    parser.add_argument("--numbers", type=int, default=500_000, help="numbers in all (default 500,000)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        kept = write_low_rank(
            arguments.tuned, arguments.base, model_spec(arguments.name), arguments.numbers, arguments.out
        )
    except KinescribeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{arguments.out}: {kept:.1%} of the change\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
