"""LoRA files as they lie on disk: which files of a folder, which pairs in them, and the scale each was trained with."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from kinescribe.checkpoints.files import WEIGHT_SUFFIXES, read_json, safetensors_metadata, sha256
from kinescribe.checkpoints.lora_names import Pair, pairs_in
from kinescribe.checkpoints.read import WeightFile, open_weights
from kinescribe.errors import WeightsError

PEFT_CONFIG = "adapter_config.json"
_NAMES = ("adapter_model", "pytorch_lora_weights")
_DIFFUSERS_NOTE = "lora_adapter_metadata"


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """One open file. ``spare`` are names that belong to no pair; ``peft`` is what PEFT noted of a network.

    ``classes`` are those whose layers cloneofsimo's writer went through, by network.
    """

    path: Path
    weights: WeightFile
    pairs: tuple[Pair, ...]
    spare: tuple[str, ...]
    peft: dict[str, dict[str, Any]]
    classes: dict[str, list[str]]
    hashed: tuple[Path, ...]
    """The files whose bytes say what the LoRA does."""

    def shapes(self, pair: Pair) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the sides, down and up."""
        return self.weights.shapes[pair.down], self.weights.shapes[pair.up]

    def scale(self, pair: Pair, rank: int) -> float:
        """What the product is multiplied with: alpha by rank, 1 where nothing says alpha.

        Raises:
            WeightsError: an alpha that is no number, or 0.
        """
        if pair.alpha is None:
            return self._noted_scale(pair, rank)
        value = self.weights.read(pair.alpha)
        alpha = float(value.item()) if value.numel() == 1 else float("nan")
        return _require_alpha(self.path, pair.alpha, alpha) / rank

    @property
    def alpha_is_unknown(self) -> bool:
        """Whether PEFT wrote the file, whose note on alpha is not there."""
        bare = any("base_model.model." in pair.down for pair in self.pairs)
        return bare and not self.peft and all(pair.alpha is None for pair in self.pairs)

    def _noted_scale(self, pair: Pair, rank: int) -> float:
        """The scale by PEFT's note: ``lora_alpha``, or that of the first pattern which the layer's name ends in."""
        peft = self.peft.get(pair.part, {})
        if "lora_alpha" not in peft:
            return 1.0
        patterns = peft.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise WeightsError(f"{self.path}: its alpha_pattern is no table: fetch it again")
        fitting = [v for key, v in patterns.items() if _ends_in(pair.module, key.removeprefix("text_model."))]
        alpha = _require_alpha(self.path, "lora_alpha", _number((fitting or [peft["lora_alpha"]])[0]))
        return alpha / (sqrt(rank) if peft.get("use_rslora") else rank)


def is_lora(path: Path) -> bool:
    """Whether a file or folder looks like a LoRA and not like a model, whole or damaged."""
    if path.is_dir():
        names = [item.name for item in path.iterdir()]
        adapter = PEFT_CONFIG in names or any(name.startswith(_NAMES) for name in names)
        return adapter and "model_index.json" not in names
    if path.suffix not in WEIGHT_SUFFIXES or not path.is_file():
        return False
    try:
        pairs_in(path, open_weights([path]).shapes)
    except WeightsError:
        return False
    return True


def open_lora(path: Path) -> list[LoraFile]:
    """The file, or those of a folder: PEFT's, diffusers', or one for the UNet and one for the text tower.

    Raises:
        WeightsError: nothing there, several to choose from, a damaged file, no LoRA or another kind of adapter.
    """
    return [_opened(file) for file in _files(path)]


def sum_of(files: Sequence[LoraFile]) -> str:
    """SHA-256 of what was read: of the one file, or of the sums of several."""
    sums = [sha256(path) for file in files for path in file.hashed]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _opened(path: Path) -> LoraFile:
    weights = open_weights([path])
    pairs, spare = pairs_in(path, weights.shapes)
    config = path.with_name(PEFT_CONFIG)
    noted = safetensors_metadata(path)
    peft: dict[str, dict[str, Any]] = {}
    hashed: tuple[Path, ...] = (path,)
    if path.stem.startswith("adapter_model") and config.is_file():
        told, hashed = read_json(config), (path, config)
        peft = {"unet": told, "text": told}
    elif _DIFFUSERS_NOTE in noted:
        peft = _by_network(path, noted[_DIFFUSERS_NOTE])
    for told in peft.values():
        _require_plain_lora(path, told)
    classes = {name: found for name in ("unet", "text_encoder") if (found := _classes(noted.get(name)))}
    return LoraFile(
        path=path, weights=weights, pairs=pairs, spare=spare, peft=peft, classes=classes, hashed=hashed
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise WeightsError(f"{path}: no such file or folder: correct the path")
    found = sorted(item for item in path.iterdir() if item.suffix in WEIGHT_SUFFIXES and item.is_file())
    for name in _NAMES:
        named = [item for item in found if item.stem == name] or [i for i in found if i.stem.startswith(name)]
        if len({item.stem for item in named}) == 1:  # .safetensors comes behind .bin
            return named[-1:]
    parts = [[item for item in found if part in item.stem] for part in ("unet", "text_encoder")]
    if len(found) == 1:
        return found
    if found and all(len(part) <= 1 for part in parts) and sum(map(len, parts)) == len(found):
        return found
    shown = ", ".join(item.name for item in found[:5]) or "none"
    raise WeightsError(f"{path}: which of its weight files is the LoRA? There are {shown}: give one of them")


def _require_plain_lora(path: Path, peft: dict[str, Any]) -> None:
    kind = peft.get("peft_type", "LORA")
    if kind != "LORA" or peft.get("use_dora"):
        raise WeightsError(
            f"{path}: an adapter of PEFT's type {kind if kind != 'LORA' else 'DoRA'}, and only plain LoRA is "
            "read: look for that"
        )
    if peft.get("fan_in_fan_out"):
        raise WeightsError(f"{path}: fan_in_fan_out is for layers that this model has none of: refused")


def _by_network(path: Path, text: str) -> dict[str, dict[str, Any]]:
    """The note that diffusers keeps in its files, ``unet.lora_alpha`` and so on, by network."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: its note {_DIFFUSERS_NOTE} is no JSON ({error}): fetch it again"
        ) from error
    if not isinstance(table, dict):
        raise WeightsError(f"{path}: its note {_DIFFUSERS_NOTE} is no table: fetch it again")
    networks = {"unet": "unet.", "text": "text_encoder."}
    return {
        part: {key.removeprefix(prefix): value for key, value in table.items() if key.startswith(prefix)}
        for part, prefix in networks.items()
    }


def _classes(text: str | None) -> list[str]:
    """The names of classes that cloneofsimo's writer notes as a JSON list."""
    try:
        names = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _ends_in(module: str, pattern: str) -> bool:
    return len(pattern) < 500 and re.fullmatch(rf"(.*\.)?{re.escape(pattern)}", module) is not None


def _number(noted: object) -> float:
    """What JSON holds as a number; NaN for anything else, infinity for a whole number beyond all floats."""
    try:
        return float(noted) if isinstance(noted, int | float) else float("nan")
    except OverflowError:
        return float("inf")


def _require_alpha(path: Path, name: str, alpha: float) -> float:
    if not isfinite(alpha) or alpha == 0:
        raise WeightsError(
            f"{path}: {name} is {alpha:g}, with which the LoRA does nothing or harm: fetch it again"
        )
    return alpha
