"""Parts of a model that lie in the folder of an embedded one beside it, so that the package holds them once.

Its configuration then has ``"shared": {"vae": {"from": "papercut", "bytes": ..., "sha256": ...}}``: the part is
``../papercut/vae.safetensors``, and nothing but a file of just these bytes will do. It needs no torch.
"""

import json
import re
from pathlib import Path
from typing import Any

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.files import read_json
from kinescribe.errors import WeightsError

LENDABLE = ("text", "vae")
LENDABLE_WITH_LORA = ("unet", *LENDABLE)
"""What had the same UNet and no LoRA of its own would be the same model."""


def shared_sums(config: Path) -> dict[str, tuple[int, str]]:
    """Of each shared part of the configuration at ``config``, its place as ``../papercut/vae.safetensors`` to its sum.

    Raises:
        WeightsError: an entry is malformed, or names anything but an embedded model.
    """
    document = read_json(config)
    table, lendable = document.get("shared", {}), LENDABLE_WITH_LORA if "lora" in document else LENDABLE
    try:
        return {
            _place(part, entry, lendable): (entry["bytes"], entry["sha256"]) for part, entry in table.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{config}: its shared parts are malformed ({error}): fetch it again") from error


def part_file(config: Path, part: str) -> Path:
    """The file of a part: in the folder of ``config``, or of the embedded model that it is shared with."""
    name = f"{part}.safetensors"
    return config.parent / next((place for place in shared_sums(config) if place.endswith(f"/{name}")), name)


def share(config: Path, embedded: str) -> tuple[str, ...]:
    """Leave out of a folder what the embedded model beside it has too, byte for byte; the parts left out."""
    document = read_json(config)
    theirs = read_json(config.parent / ".." / embedded / config.name)["files"]
    files, shared = document["files"], document.get("shared", {})
    names = {part: f"{part}.safetensors" for part in LENDABLE}
    same = [part for part, name in names.items() if name in files and files[name] == theirs.get(name)]
    for part in same:
        shared[part] = {"from": embedded, **files.pop(names[part])}
    text = json.dumps({**document, "shared": shared}, indent=1, ensure_ascii=False) + "\n"
    config.write_text(text, encoding="utf-8")
    for part in same:
        (config.parent / names[part]).unlink()
    return tuple(same)


def _place(part: str, entry: dict[str, Any], lendable: tuple[str, ...]) -> str:
    spec = CATALOG.get(entry["from"])
    if part not in lendable or spec is None or not spec.embedded:
        raise ValueError(f"{part!r} from {entry['from']!r}")
    if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
        raise ValueError(f"the sum of {part!r}")
    return f"../{spec.name}/{part}.safetensors"
