"""Our own layout: one folder, safetensors, a ``kinescribe.json`` with every size and the sums of all files.

kinescribe.json   unet.safetensors   vae.safetensors   [text | conditions | vision].safetensors   [tokenizer.json]

A model that is another one with a LoRA names that file under ``lora``, and shares the rest (``siblings``).
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from kinescribe.catalog import CATALOG, Defaults, ModelSpec, PictureInput, Refinement
from kinescribe.checkpoints.files import inside, read_json, sha256
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.siblings import part_file
from kinescribe.checkpoints.source import (
    Config,
    Part,
    PartName,
    Source,
    TokenizerFiles,
    part,
    same_vocabulary,
)
from kinescribe.checkpoints.staging import Content, staged, write_tensors
from kinescribe.checkpoints.store import CONFIG_FILE
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.image_conditions import ImageConditions, ImageConditionsConfig
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.models.vision import VisionConfig, VisionEncoder

TOKENIZER_FILE = "tokenizer.json"
FORMAT = 1
"""Raised when a folder written today could no longer be read by the code of before."""

T = TypeVar("T")
_CONFIGS: dict[PartName, type[Config]] = {
    "unet": UNetConfig,
    "vae": VAEConfig,
    "text": TextConfig,
    "conditions": ImageConditionsConfig,
    "vision": VisionConfig,
}
_FACTS: dict[str, type[PictureInput | Refinement]] = {"picture": PictureInput, "refinement": Refinement}


def save_native(
    folder: Path | str,
    *,
    unet: UNet,
    vae: AutoencoderKL,
    text: TextEncoder | None,
    tokenizer: Tokenizer | None,
    schedule: ScheduleConfig,
    spec: ModelSpec,
    conditions: ImageConditions | None = None,
    vision: VisionEncoder | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model as a folder of ours; it appears whole or not at all.

    What the model does not have is None. ``dtype`` converts floating tensors (None keeps them). Returns the folder.

    Raises:
        OptionError: the folder exists and ``overwrite`` is not set.
        NumbersError: a weight that is not finite.
        WriteError: the disk is full or the place cannot be written.
    """
    every: dict[PartName, UNet | AutoencoderKL | TextEncoder | ImageConditions | VisionEncoder | None] = {
        "unet": unet, "vae": vae, "text": text, "conditions": conditions, "vision": vision,
    }  # fmt: skip
    networks = {name: network for name, network in every.items() if network is not None}
    content = Content(
        configs={name: network.config for name, network in networks.items()},
        tensors={name: network.state_dict().items() for name, network in networks.items()},
        tokenizer=tokenizer,
        schedule=schedule,
        spec=spec,
    )
    with staged(Path(folder), overwrite=overwrite) as temporary:
        write_native(temporary, content, dtype=dtype)
    return Path(folder)


def write_native(folder: Path, content: Content, *, dtype: torch.dtype | None) -> None:
    """Fill an empty folder; each set of tensors is gone through once."""
    for name, items in content.tensors.items():
        write_tensors(folder / f"{name}.safetensors", items, dtype=dtype)
    document: dict[str, Any] = {"format": FORMAT, "kind": content.spec.kind}
    document["spec"] = spec_table(content.spec)
    document |= {name: _told(config) for name, config in content.configs.items()}
    document["schedule"] = _told(content.schedule)
    if content.tokenizer is not None:
        document["tokenizer"] = _write_tokenizer(folder, content.tokenizer)
    document["files"] = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def is_native(folder: Path) -> bool:
    """The folder has our configuration file."""
    return (folder / CONFIG_FILE).is_file()


def describe_native(folder: Path) -> Source:
    """A folder of ours as a source.

    Raises:
        WeightsError: the configuration is absent, of a later format, or malformed.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise WeightsError(f"{folder}: no {CONFIG_FILE} in it: is it a model folder?")
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise WeightsError(f"{path}: format {document.get('format')!r}, this version reads {FORMAT}: upgrade")
    spec = _spec(path, _table(path, document, "spec"), document.get("kind"))
    parts: dict[str, Part | None] = {"text": None}
    for name in _needed(spec):
        config = _made(path, _CONFIGS[name], _table(path, document, name))
        file = part_file(path, name)
        files = (file,) if file.is_file() else ()
        parts[name] = part(config, layout=None, files=files, wanted=str(file), aliases=Aliases())
    tokenizer = None
    if parts["text"] is not None:
        tokenizer = _tokenizer_files(folder, _table(path, document, "tokenizer"))
    return Source(
        layout="native",
        path=folder,
        tokenizer=tokenizer,
        schedule=_made(path, ScheduleConfig, _table(path, document, "schedule")),
        spec=spec,
        lora=_lora(folder, document),
        **parts,  # type: ignore[arg-type]
    )


def _lora(folder: Path, document: Mapping[str, Any]) -> Path | None:
    name = document.get("lora")
    return None if name is None else inside(folder, name)


def _needed(spec: ModelSpec) -> list[PartName]:
    """The parts of a model of this row."""
    names: list[PartName] = ["unet", "vae"]
    if spec.picture is None or spec.picture.takes_text:
        names.append("text")
    return names if spec.picture is None else [*names, "conditions", "vision"]


def file_entry(path: Path) -> dict[str, int | str]:
    """What a configuration says of a file beside it."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _told(config: Any) -> dict[str, Any]:
    """A config as a table, without what has the value that is assumed where nothing is said."""
    table = dataclasses.asdict(config)
    assumed = {field.name: field.default for field in dataclasses.fields(config)}
    return {name: value for name, value in table.items() if value != assumed[name]}


def spec_table(spec: ModelSpec) -> dict[str, Any]:
    """What a configuration says of a row of the catalog."""
    table = dataclasses.asdict(spec)
    # Where a model is published and whether it comes with the package is the catalog's to say.
    elsewhere = {"sources", "embedded", "kind"}
    # Written only where it matters: folders of models without it are read by earlier versions too.
    elsewhere |= {name for name in ("row_remainder", *_FACTS) if not table[name]}
    return {name: value for name, value in table.items() if name not in elsewhere}


def _spec(path: Path, table: dict[str, Any], kind: object) -> ModelSpec:
    known = CATALOG.get(str(table.get("name")))
    sources, embedded = (known.sources, known.embedded) if known else ((), False)
    facts: dict[str, Any] = {
        name: _made(path, made, _table(path, table, name)) for name, made in _FACTS.items() if name in table
    }
    facts["defaults"] = _made(path, Defaults, _table(path, table, "defaults"))
    extra = {"kind": kind, "sources": sources, "embedded": embedded}
    spec = _made(path, ModelSpec, {**table, **extra, **facts})
    lacking = {"image-to-video": spec.picture, "video-to-video": spec.refinement}.get(spec.kind, spec)
    if lacking is None:
        raise WeightsError(f"{path}: a model for {spec.kind} without what that needs: fetch it again")
    return spec


def _write_tokenizer(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """CLIP's vocabulary comes with the package and is not written; any other one is."""
    file = None
    if not same_vocabulary(tokenizer.full, Tokenizer.clip().full):
        tokenizer.full.write_json(folder / TOKENIZER_FILE)
        file = TOKENIZER_FILE
    table = {"file": file, "context_length": tokenizer.context_length, "keep": tokenizer.keep}
    return table | ({"padded_with_end": True} if tokenizer.padded_with_end else {})


def _tokenizer_files(folder: Path, table: dict[str, Any]) -> TokenizerFiles:
    keep, file, length = table.get("keep"), table.get("file"), table.get("context_length")
    padded = table.get("padded_with_end", False)
    whole = keep is None or (isinstance(keep, list) and all(isinstance(i, int) for i in keep))
    wrong = not whole or not isinstance(padded, bool) or (keep is not None and file is not None)
    if wrong or not isinstance(length, int):
        raise WeightsError(f"{folder / CONFIG_FILE}: its tokenizer is malformed: fetch it again")
    files = () if file is None else (inside(folder, file),)
    return TokenizerFiles(
        files=files,
        context_length=length,
        keep=None if keep is None else tuple(keep),
        padded_with_end=padded,
    )


def _table(path: Path, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name)
    if not isinstance(table, dict):
        raise WeightsError(f"{path}: {name!r} is absent or no table: fetch it again")
    return table


def _made(path: Path, kind: type[T], table: dict[str, Any]) -> T:
    """A frozen dataclass from its table: every field without a default, each with the type it is declared with."""
    wanted = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    optional = {field.name for field in fields if field.default is not dataclasses.MISSING}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    wrong = sorted((set(values) ^ set(wanted)) - optional)
    if wrong:
        raise WeightsError(f"{path}: {kind.__name__} has {wrong[0]!r} missing or too much: fetch it again")
    for name, value in values.items():
        if not _fits(value, wanted[name]):
            raise WeightsError(f"{path}: {kind.__name__}.{name} is {value!r}: fetch it again")
    return kind(**values)


def _fits(value: object, wanted: Any) -> bool:
    """Whether a value out of JSON is of the declared type."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        return value in args
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, args[0]) for item in value)
    if args:
        return any(_fits(value, arg) for arg in args)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)
