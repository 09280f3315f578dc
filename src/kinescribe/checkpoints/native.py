"""Our own layout: one folder, safetensors, a ``kinescribe.json`` with every size and the sums of all files.

kinescribe.json   unet.safetensors   vae.safetensors   text.safetensors   [tokenizer.json]
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from kinescribe.catalog import CATALOG, Defaults, ModelSpec
from kinescribe.checkpoints.files import inside, read_json, sha256
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Config, PartName, Source, TokenizerFiles, part, same_vocabulary
from kinescribe.checkpoints.staging import Content, staged, write_tensors
from kinescribe.checkpoints.store import CONFIG_FILE
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig

TOKENIZER_FILE = "tokenizer.json"
FORMAT = 1
"""Raised when a folder written today could no longer be read by the code of before."""

T = TypeVar("T")


def save_native(
    folder: Path | str,
    *,
    unet: UNet,
    vae: AutoencoderKL,
    text: TextEncoder,
    tokenizer: Tokenizer,
    schedule: ScheduleConfig,
    spec: ModelSpec,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model as a folder of ours; it appears whole or not at all.

    ``dtype`` converts floating tensors (None keeps them). Returns the folder.

    Raises:
        OptionError: the folder exists and ``overwrite`` is not set.
        NumbersError: a weight that is not finite.
        WriteError: the disk is full or the place cannot be written.
    """
    networks: dict[PartName, UNet | AutoencoderKL | TextEncoder] = {"unet": unet, "vae": vae, "text": text}
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
    document["spec"] = _spec_table(content.spec)
    document |= {name: dataclasses.asdict(config) for name, config in content.configs.items()}
    document["schedule"] = dataclasses.asdict(content.schedule)
    document["tokenizer"] = _write_tokenizer(folder, content.tokenizer)
    document["files"] = {path.name: _entry(path) for path in sorted(folder.iterdir())}
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
    spec = _spec(path, _table(path, document, "spec"))
    configs: tuple[Config, ...] = (
        _made(path, UNetConfig, _table(path, document, "unet")),
        _made(path, VAEConfig, _table(path, document, "vae")),
        _made(path, TextConfig, _table(path, document, "text")),
    )
    parts = {}
    for name, config in zip(("unet", "vae", "text"), configs, strict=True):
        file = folder / f"{name}.safetensors"
        files = (file,) if file.is_file() else ()
        parts[name] = part(config, layout=None, files=files, wanted=str(file), aliases=Aliases())
    return Source(
        layout="native",
        path=folder,
        tokenizer=_tokenizer_files(folder, _table(path, document, "tokenizer")),
        schedule=_made(path, ScheduleConfig, _table(path, document, "schedule")),
        spec=spec,
        **parts,
    )


def _entry(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _spec_table(spec: ModelSpec) -> dict[str, Any]:
    table = dataclasses.asdict(spec)
    # Where a model is published and whether it comes with the package is the catalog's to say.
    return {name: value for name, value in table.items() if name not in ("sources", "embedded", "kind")}


def _spec(path: Path, table: dict[str, Any]) -> ModelSpec:
    known = CATALOG.get(str(table.get("name")))
    sources, embedded = (known.sources, known.embedded) if known else ((), False)
    defaults = _made(path, Defaults, _table(path, table, "defaults"))
    rest = {name: value for name, value in table.items() if name != "defaults"}
    extra = {"kind": "text-to-video", "sources": sources, "embedded": embedded, "defaults": defaults}
    return _made(path, ModelSpec, rest | extra)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """CLIP's vocabulary comes with the package and is not written; any other one is."""
    file = None
    if not same_vocabulary(tokenizer.full, Tokenizer.clip().full):
        tokenizer.full.write_json(folder / TOKENIZER_FILE)
        file = TOKENIZER_FILE
    return {"file": file, "context_length": tokenizer.context_length, "keep": tokenizer.keep}


def _tokenizer_files(folder: Path, table: dict[str, Any]) -> TokenizerFiles:
    keep, file, length = table.get("keep"), table.get("file"), table.get("context_length")
    whole = keep is None or (isinstance(keep, list) and all(isinstance(i, int) for i in keep))
    if not whole or not isinstance(length, int) or (keep is not None and file is not None):
        raise WeightsError(f"{folder / CONFIG_FILE}: its tokenizer is malformed: fetch it again")
    files = () if file is None else (inside(folder, file),)
    return TokenizerFiles(files=files, context_length=length, keep=None if keep is None else tuple(keep))


def _table(path: Path, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name)
    if not isinstance(table, dict):
        raise WeightsError(f"{path}: {name!r} is absent or no table: fetch it again")
    return table


def _made(path: Path, kind: type[T], table: dict[str, Any]) -> T:
    """A frozen dataclass from its table; every field must be there, with the type it is declared with."""
    wanted = typing.get_type_hints(kind)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    wrong = sorted(set(values) ^ set(wanted))
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
