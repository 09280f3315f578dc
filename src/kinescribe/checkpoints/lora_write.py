"""A model that is an embedded one with a LoRA, as a folder beside that one: the LoRA, and where all else lies."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.checkpoints.files import read_json
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.load import locate, require_files
from kinescribe.checkpoints.native import describe_native, file_entry, spec_table
from kinescribe.checkpoints.siblings import LENDABLE_WITH_LORA
from kinescribe.checkpoints.source import part
from kinescribe.checkpoints.staging import save_tensors, staged
from kinescribe.checkpoints.store import CONFIG_FILE
from kinescribe.errors import DataError
from kinescribe.models.unet import UNetConfig

LORA_FILE = "lora.safetensors"
CARD = "README.md"
Sides = tuple[Float[Tensor, "r i"], Float[Tensor, "o r"]]
"""Down and up of the change of a weight."""


def require_place(out: Path, base: str) -> None:
    """Raise ``DataError`` unless ``base`` is an embedded model, and lies beside a folder at ``out``."""
    if base not in CATALOG or not CATALOG[base].embedded:
        raise DataError(f"base={base}: only what is shared with an embedded model can be left out")
    if not (out.parent / base / CONFIG_FILE).is_file():
        raise DataError(f"{out}: what is shared lies in {base} beside it: choose a place beside that folder")


def write_beside(
    out: Path, tuned: Path, base: str, spec: ModelSpec, config: UNetConfig, sides: Mapping[str, Sides]
) -> None:
    """Write the folder, whole or not at all, over an earlier one whose card stays.

    ``sides`` are by the names of our UNet's weights. How it is sampled is what the folder ``tuned`` says; name and
    description are those of ``spec``. Raises ``DataError`` where ``tuned`` was not made of ``base``, and the errors of
    writing folders.
    """
    require_place(out, base)
    document, theirs = read_json(tuned / CONFIG_FILE), read_json(locate(base) / CONFIG_FILE)["files"]
    document |= {
        "spec": spec_table(spec),
        "lora": LORA_FILE,
        "shared": _shared(base, document["files"], theirs),
    }
    with staged(out, overwrite=True) as folder:
        save_tensors(folder / LORA_FILE, dict(_tensors(config, sides)))
        document["files"] = {LORA_FILE: file_entry(folder / LORA_FILE)}
        if (out / CARD).is_file():
            shutil.copy(out / CARD, folder / CARD)
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    require_files(describe_native(out))


def _tensors(config: UNetConfig, sides: Mapping[str, Sides]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file in fp16: ``unet.LAYER.lora_A.weight`` and ``lora_B``, layers in the words of diffusers."""
    keymap = part(config, layout="diffusers", files=(), wanted="", aliases=Aliases()).keymap
    for entry in keymap.entries:
        if entry.ours not in sides:
            continue
        (down, up), (layer,) = sides[entry.ours], (name.removesuffix(".weight") for name in entry.foreign)
        inside = keymap.shapes[entry.ours][1:]
        ones = (1,) * (len(inside) - 1)
        yield f"unet.{layer}.lora_A.weight", down.reshape(-1, *inside).half().contiguous()
        yield f"unet.{layer}.lora_B.weight", up.reshape(*up.shape, *ones).half().contiguous()


def _shared(base: str, own: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """What the folder takes from the embedded one; the tuned model must not differ in it but for the UNet."""
    names = {part: f"{part}.safetensors" for part in LENDABLE_WITH_LORA}
    if set(names.values()) != {name for name in theirs if name.endswith(".safetensors")}:
        raise DataError(f"base={base}: it does not hold UNet, autoencoder and text tower itself, and no more")
    other = [part for part, name in names.items() if part != "unet" and own.get(name) != theirs[name]]
    if other:
        raise DataError(
            f"the tuned model's {other[0]} is not that of {base}: name the model that it was made of"
        )
    return {part: {"from": base, **theirs[name]} for part, name in names.items()}
