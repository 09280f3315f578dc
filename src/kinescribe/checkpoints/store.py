"""Where models lie on this computer, and whether their files are still the ones that were written.

It reads an environment variable, ``KINESCRIBE_HOME``. It needs no torch, and never the network.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kinescribe.catalog import CATALOG, ModelSpec, find_spec
from kinescribe.checkpoints.files import inside, read_json, sha256
from kinescribe.checkpoints.siblings import shared_sums
from kinescribe.errors import OptionError, WeightsError, WriteError

CONFIG_FILE = "kinescribe.json"
"""Configuration and sums of a folder in our own layout."""
SUMS_FILE = "kinescribe-sums.json"
"""Sums of a folder in a foreign layout, written when it was pulled."""
_VERDICTS = "verified.json"
_LICENCES = "licences.json"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """One model of the catalog or of the store. ``spec`` is None for a folder the catalog does not know."""

    name: str
    spec: ModelSpec | None
    path: Path | None
    """Where it lies; None if it is not on this computer."""
    bytes: int
    """Size on this disk, or of the published files if it is not here; 0 if unknown."""


@dataclass(frozen=True, kw_only=True)
class FileVerdict:
    """Whether a file has the size and the sum that were recorded for it."""

    path: Path
    state: Literal["intact", "missing", "changed", "unknown"]
    detail: str


def home() -> Path:
    """The folder of everything Kinescribe keeps: ``KINESCRIBE_HOME``, else ``~/.cache/kinescribe``."""
    chosen = os.environ.get("KINESCRIBE_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "kinescribe"


def models_root() -> Path:
    """The folder that holds one folder per pulled or converted model."""
    return home() / "models"


def model_folder(spec: ModelSpec) -> Path | None:
    """Where a model of the catalog lies, or None if it is not on this computer."""
    folder = _ASSETS / spec.name if spec.embedded else models_root() / spec.name
    if spec.embedded:
        return folder if (folder / CONFIG_FILE).is_file() else None
    return folder if folder.is_dir() else None


def stored_folder(name: str) -> Path | None:
    """The folder of that name in the store, whether the catalog knows it or not; None if there is none."""
    folder = models_root() / name
    return folder if _PLAIN_NAME.fullmatch(name) and folder.is_dir() else None


def list_models() -> list[StoredModel]:
    """Every model of the catalog, then every further folder of the store."""
    rows = []
    for spec in CATALOG.values():
        path = model_folder(spec)
        size = folder_bytes(path) if path else spec.bytes or 0
        rows.append(StoredModel(name=spec.name, spec=spec, path=path, bytes=size))
    root = models_root()
    others = sorted(root.iterdir()) if root.is_dir() else []
    for path in others:
        if path.is_dir() and path.name not in CATALOG and not path.name.startswith("."):
            rows.append(StoredModel(name=path.name, spec=None, path=path, bytes=folder_bytes(path)))
    return rows


def remove(name: str) -> int:
    """Delete a model from the store; the number of bytes freed.

    Raises:
        OptionError: the model is embedded, not there, or the name is a path.
        WriteError: the folder cannot be deleted.
    """
    spec = find_spec(name)
    if spec is not None and spec.embedded:
        raise OptionError(f"{name} comes with the package and is not deleted")
    if spec is None and not _PLAIN_NAME.fullmatch(name):
        raise OptionError(f"{name!r} is not the name of a stored model: see 'kinescribe models list'")
    folder = models_root() / (spec.name if spec else name)
    if not folder.is_dir():
        raise OptionError(f"{name} is not on this computer: see 'kinescribe models list'")
    size = folder_bytes(folder)
    try:
        # A rename first: whatever happens then, no half model stays under its name.
        grave = Path(tempfile.mkdtemp(prefix=".removed.", dir=folder.parent))
        folder.rename(grave / folder.name)
        shutil.rmtree(grave)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be deleted ({error.strerror}): delete it by hand") from error
    return size


def folder_bytes(folder: Path) -> int:
    """Size of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def recorded_sums(folder: Path) -> dict[str, tuple[int, str]] | None:
    """Size and sha256 of the folder's files as recorded when it was written or pulled; None without a record.

    Raises:
        WeightsError: the record is malformed.
    """
    records = (folder / CONFIG_FILE, folder / SUMS_FILE)
    path = next((record for record in records if record.is_file()), None)
    if path is None:
        return None
    table = read_json(path).get("files")
    try:
        if not isinstance(table, dict):
            raise TypeError(f"a {type(table).__name__}")
        sums = {_relative(folder, name): (entry["bytes"], entry["sha256"]) for name, entry in table.items()}
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: its list of files is malformed ({error}): fetch it again") from error
    return sums | (shared_sums(path) if path.name == CONFIG_FILE else {})


def verify_files(folder: Path, sums: Mapping[str, tuple[int, str]], *, cached: bool) -> list[FileVerdict]:
    """Compare files with their recorded sums.

    ``cached`` trusts an earlier verdict for a file whose size, time of change and inode are the same.
    """
    known = _read_kept(_VERDICTS) if cached else {}
    fresh = {}
    verdicts = []
    for name, (size, digest) in sums.items():
        path = folder / name
        if not path.is_file():
            verdicts.append(FileVerdict(path=path, state="missing", detail="not there"))
            continue
        key, stamp = str(path.resolve()), _stamp(path, digest)
        if known.get(key) == stamp:
            verdicts.append(FileVerdict(path=path, state="intact", detail="verified earlier"))
            continue
        state, detail = _compare(path, size, digest)
        if state == "intact":
            fresh[key] = stamp
        verdicts.append(FileVerdict(path=path, state=state, detail=detail))
    if fresh:
        _write_kept(_VERDICTS, _read_kept(_VERDICTS) | fresh)
    return verdicts


def remember_intact(folder: Path, sums: Mapping[str, tuple[int, str]]) -> None:
    """Note that the files were hashed just now and have these sums."""
    fresh = {str((folder / name).resolve()): _stamp(folder / name, sums[name][1]) for name in sums}
    _write_kept(_VERDICTS, _read_kept(_VERDICTS) | fresh)


def require_intact(folder: Path) -> None:
    """Raise ``WeightsError`` for the first file that is not as it was written or pulled.

    Quick when nothing changed; a folder without recorded sums, or a bare file, passes.
    """
    for verdict in verify_files(folder, recorded_sums(folder) or {}, cached=True):
        if verdict.state != "intact":
            raise WeightsError(
                f"{verdict.path}: {verdict.state}, {verdict.detail}: fetch or convert it again"
            )


def remember_licence(spec: ModelSpec) -> bool:
    """Note that the licence of a model's weights was shown on this computer; False if it was before."""
    seen = _read_kept(_LICENCES)
    if seen.get(spec.name) == spec.licence:
        return False
    _write_kept(_LICENCES, seen | {spec.name: spec.licence})
    return True


def _compare(path: Path, size: int, digest: str) -> tuple[Literal["intact", "changed"], str]:
    found = path.stat().st_size
    if found != size:
        return "changed", f"{found} bytes, {size} were written"
    actual = sha256(path)
    if not actual.startswith(digest):
        return "changed", f"sha256 {actual[:16]}..., {digest[:16]}... was written"
    return "intact", "sha256 as written"


def _relative(folder: Path, name: str) -> str:
    for piece in name.split("/"):
        inside(folder, piece)
    return name


def _stamp(path: Path, digest: str) -> list[int | str]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ino, digest]


def _read_kept(name: str) -> dict[str, Any]:
    """A table that lies in the home; empty if it is not there or spoilt."""
    try:
        table = json.loads((home() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _write_kept(name: str, table: Mapping[str, Any]) -> None:
    """Keep a table; a home that cannot be written only means the same work, or the same line, next time."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=home())
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(table, stream)
        Path(temporary).replace(home() / name)
    except OSError:
        return
