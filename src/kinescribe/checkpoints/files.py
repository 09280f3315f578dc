"""Facts about files that need no torch: JSON tables, safe names, sums, and the headers of safetensors files."""

import hashlib
import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinescribe.errors import WeightsError

HEADER_LIMIT = 100_000_000
"""Longest safetensors header that is read, in bytes."""

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How the names of files with weights end."""

_ITEM_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2}
_ITEM_BYTES |= {"I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


def safetensors_header(path: Path) -> dict[str, Any]:
    """The checked header of a safetensors file: name to ``dtype``, ``shape`` and ``data_offsets``.

    Raises:
        WeightsError: header too long or not JSON, a name twice, offsets that overlap, leave holes or do not
            agree with the shapes, or a file shorter or longer than its header says.
    """
    header, size = _header(path)
    header.pop("__metadata__", None)
    _check_offsets(path, header, size)
    return header


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What the writer of a safetensors file noted in it, empty for any other file; texts, believed by nobody.

    Raises ``WeightsError`` for a header that cannot be read.
    """
    if path.suffix != ".safetensors":
        return {}
    noted = _header(path)[0].get("__metadata__")
    return {str(key): str(value) for key, value in noted.items()} if isinstance(noted, dict) else {}


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


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_strangers(path: Path) -> None:
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


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header as it stands, and how many bytes follow it."""
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
    return header, size - 8 - length


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
