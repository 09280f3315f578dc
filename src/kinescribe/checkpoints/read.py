"""The only door to weight files: safetensors and PyTorch archives, checked before anything is believed.

Nothing in a file is ever run. A pickle is read by torch's restricted reader alone; classes of other packages
that published files are known to hold become empty shells, and any other class is refused, without a second try.
"""

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.errors import WeightsError

HEADER_LIMIT = 100_000_000
"""Longest safetensors header that is read, in bytes."""

_ITEM_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2}
_ITEM_BYTES |= {"I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# Classes that training frameworks left in published files: names of things we neither need nor import.
_FOREIGN_CLASSES = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.progress.tqdm_progress.TQDMProgressBar",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.StringNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.BooleanNode",
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",
    "typing.Any",
)


class Shell:
    """What a foreign object becomes: takes any arguments, any state and any items, and keeps nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> "Shell":
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...


@dataclass(frozen=True)
class WeightFile:
    """The tensors of one network in one or more files: shapes and dtypes known, numbers read on demand."""

    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    places: dict[str, Path]
    """The file that holds each tensor."""
    readers: dict[Path, Callable[[str], Tensor]]

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU, in its own dtype; it may be a view of the file."""
        return self.readers[self.places[name]](name)

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of most of its numbers."""
        counts: dict[torch.dtype, int] = {}
        for name, dtype in self.dtypes.items():
            if dtype.is_floating_point:
                counts[dtype] = counts.get(dtype, 0) + _count(self.shapes[name])
        return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)


def open_weights(files: Iterable[Path]) -> WeightFile:
    """Open the file or the shards of one network.

    Raises:
        WeightsError: a file that is absent, cut off, no weight file, unsafe, or two that hold the same tensor.
    """
    whole = WeightFile((), {}, {}, {}, {})
    for path in files:
        part = _open_one(path)
        twice = next((name for name in part.shapes if name in whole.shapes), None)
        if twice is not None:
            raise WeightsError(f"{path}: {twice} is in {whole.places[twice].name} too: fetch both files again")
        whole = WeightFile(
            (*whole.files, path),
            whole.shapes | part.shapes,
            whole.dtypes | part.dtypes,
            whole.places | part.places,
            whole.readers | part.readers,
        )
    return whole


def safetensors_header(path: Path) -> dict[str, Any]:
    """The checked header of a safetensors file: name to ``dtype``, ``shape`` and ``data_offsets``.

    Raises:
        WeightsError: header too long or not JSON, a name twice, offsets that overlap, leave holes or do not
            agree with the shapes, or a file shorter or longer than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else None
        if length is None or length > size - 8:
            need = "at least 8 bytes" if length is None else f"a header of {length} bytes"
            raise WeightsError(f"{path}: {size} bytes, but it needs {need}: cut off, fetch it again")
        if length > HEADER_LIMIT:
            raise WeightsError(
                f"{path}: a header of {length} bytes, over the limit of {HEADER_LIMIT}: refused"
            )
        raw = stream.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is not JSON ({error}): fetch it again") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: its header is no table: fetch it again")
    header.pop("__metadata__", None)
    _check_offsets(path, header, size - 8 - length)
    return header


def read_json(path: Path) -> dict[str, Any]:
    """A JSON table.

    Raises:
        WeightsError: the file is absent, no JSON, or holds something else than a table.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not readable as JSON ({error}): fetch the file again") from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path}: holds a {type(document).__name__}, not a table: fetch the file again")
    return document


def inside(folder: Path, name: object) -> Path:
    """The file ``name`` of ``folder``, as a configuration names it.

    Raises:
        WeightsError: the name is not the plain name of a file in that folder.
    """
    plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name)
    if not plain or ".." in str(name):
        raise WeightsError(f"{folder}: its configuration names the file {name!r}: only plain names are read")
    return folder / str(name)


def _open_one(path: Path) -> WeightFile:
    _refuse_strangers(path)
    with path.open("rb") as stream:
        start = stream.read(9)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _open_safetensors(path)
    return _open_archive(path)


def _refuse_strangers(path: Path) -> None:
    """Raise for what is no weight file at all but often lies in the place of one."""
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}): fetch it again or correct the path"
        ) from error
    if not start:
        raise WeightsError(f"{path}: empty, 0 bytes: fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path}: a Git LFS pointer, not the weights: run 'git lfs pull' in its folder or pull again"
        )
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{path}: a web page saved in place of the weights: download the file itself")


def _open_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    header = safetensors_header(path)
    try:
        handle = safe_open(str(path), framework="pt", device="cpu")
    except SafetensorError as error:
        raise WeightsError(f"{path}: {error}: fetch it again") from error
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    dtypes = {name: _DTYPES.get(entry["dtype"], torch.int64) for name, entry in header.items()}
    return WeightFile((path,), shapes, dtypes, dict.fromkeys(shapes, path), {path: handle.get_tensor})


def _open_archive(path: Path) -> WeightFile:
    content = _unpickled(path)
    nested = content.get("state_dict") if isinstance(content, dict) else None
    state = nested if isinstance(nested, dict) else content
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a table of tensors")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors: is it the right file?")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    return WeightFile((path,), shapes, dtypes, dict.fromkeys(shapes, path), {path: tensors.__getitem__})


def _unpickled(path: Path) -> Any:
    shells: list[Any] = [
        (type(name.rpartition(".")[2], (Shell,), {}), name) for name in _FOREIGN_CLASSES
    ]
    try:
        with torch.serialization.safe_globals(shells):
            # Only zip archives can be mapped; older files are read whole.
            return torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"(?:GLOBAL|global:?|function|call) `?([\w.]+\.[\w.]+)", str(error))
        what = f"wants to call {culprit[1]}" if culprit else "is no plain table of tensors"
        raise WeightsError(
            f"{path}: refused, its pickle {what}: take a safetensors file of the same model, "
            "or convert it where its author is trusted"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path}: {path.stat().st_size} bytes, cut off or no weight file ({first[:120]}): fetch it again"
        ) from error


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise WeightsError(f"{path}: its header names {twice!r} twice: refused, fetch it again")
    return table


def _check_offsets(path: Path, header: dict[str, Any], size: int) -> None:
    end = 0
    try:
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        for name, entry in entries:
            start, stop = entry["data_offsets"]
            need = _count(entry["shape"]) * _ITEM_BYTES[entry["dtype"]]
            if start != end or stop - start != need:
                raise WeightsError(
                    f"{path}: {name} lies at bytes {start} to {stop}, expected {end} to {end + need}: "
                    "refused, fetch it again"
                )
            end = stop
    except (TypeError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: its header is malformed ({error!r}): fetch it again") from error
    if end != size:
        raise WeightsError(f"{path}: {size} bytes of tensors, its header says {end}: cut off, fetch it again")


def _count(shape: Iterable[int]) -> int:
    count = 1
    for n in shape:
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"axis {n!r}")
        count *= n
    return count
