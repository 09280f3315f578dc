"""Fetching published models from a hub; the only module that uses the network, and only when it is called.

The packages come with the extra ``hub``. Downloads go into a hidden folder beside the final one, resume where
they stopped, and take their place in the store once everything has arrived.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinescribe.catalog import ModelSpec, Source, model_spec
from kinescribe.checkpoints.extras import require_recent
from kinescribe.checkpoints.files import sha256
from kinescribe.checkpoints.lock import only_one
from kinescribe.checkpoints.store import SUMS_FILE, models_root, recorded_sums, remember_intact
from kinescribe.errors import KinescribeError, MissingExtraError, OptionError, WeightsError, WriteError

Fetch = Callable[[str, Path, Sequence[str]], object]
"""``fetch(id, folder, patterns)`` downloads the files that match into the folder and resumes what is there."""


@dataclass(frozen=True, kw_only=True)
class PullReport:
    """What was, or with ``dry_run`` would be, fetched; sizes in bytes."""

    name: str
    hub: str
    id: str
    licence: str
    target: Path
    patterns: tuple[str, ...]
    bytes: int
    """Size on the disk; of a dry run or an earlier pull, what the catalog states."""
    state: str
    """"fetched", "already here" or "dry run"."""


def pull(
    name: str,
    source: str | None = None,
    dry_run: bool = False,
    *,
    tell: Callable[[str], None] | None = None,
    fetch: Fetch | None = None,
) -> PullReport:
    """Fetch a model of the catalog into the store.

    ``source`` is "huggingface", "modelscope", one of the model's published ids or a layout ("vgen"); None takes
    the first.
    ``tell`` gets the licence and the size, a line each, before anything is downloaded. ``fetch`` replaces the
    hub's own client. An interrupted pull goes on where it stopped; of two at once the second waits, after a
    line to ``tell`` that names the first, and both give one result.

    Raises:
        OptionError: an unknown model or source, or a model that is not published or is embedded.
        MissingExtraError: the hub's package is not installed, or too old.
        WeightsError: the hub refused or did not answer, or a file came out different from the published one.
        WriteError: the store cannot be written.
    """
    spec = model_spec(name)
    place = _place(spec, source)
    target = models_root() / spec.name
    report = PullReport(
        name=spec.name,
        hub=place.hub,
        id=place.id,
        licence=spec.licence,
        target=target,
        patterns=place.patterns,
        bytes=place.bytes,
        state="already here" if target.is_dir() else "dry run",
    )
    if dry_run or target.is_dir():
        return report
    for line in (
        f"licence of {spec.name}: {spec.licence}",
        f"size: {place.bytes / 1e9:.1f} GB from {place.id}",
    ):
        if tell is not None:
            tell(line)
    size = _fetched(place, target, fetch or _client(place.hub), tell or _silent)
    return PullReport(**{**vars(report), "bytes": size, "state": "fetched"})


def _place(spec: ModelSpec, source: str | None) -> Source:
    if not spec.sources:
        what = "comes with the package" if spec.embedded else "is not published as a folder"
        raise OptionError(f"{spec.name} {what}: there is nothing to pull")
    if source is None:
        return spec.sources[0]
    wanted = source.removeprefix("huggingface:").removeprefix("modelscope:")
    named = [place for place in spec.sources if wanted in (place.hub, place.id)]
    laid_out = [place for place in spec.sources if wanted == place.layout]
    if named or laid_out:
        return [*named, *laid_out][0]
    raise OptionError(f"source={source!r}: {spec.name} is at {', '.join(spec.hub_ids)}")


def _silent(_line: str) -> None:
    """Tell nobody."""


def _fetched(place: Source, target: Path, fetch: Fetch, tell: Callable[[str], None]) -> int:
    partial = target.parent / f".{target.name}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with only_one(target.parent / f".{target.name}.lock", tell):
            if not target.is_dir():
                _sweep(partial)
                _download(place, partial, fetch)
                _seal(place, partial)
                shutil.rmtree(partial / ".cache", ignore_errors=True)
                partial.rename(target)
                remember_intact(target, recorded_sums(target) or {})
    except OSError as error:
        raise WriteError(
            f"{target}: cannot be written ({error.strerror or error}): free space, or set another home"
        ) from error
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _sweep(folder: Path) -> None:
    """Remove parts of files that a killed client left and no client goes on from: their names end by chance."""
    for path in folder.rglob("*.incomplete"):
        if re.search(r"\.[0-9a-f]{8}\.incomplete$", path.name):
            path.unlink()


def _download(place: Source, folder: Path, fetch: Fetch) -> None:
    try:
        fetch(place.id, folder, place.patterns)
    except KinescribeError:
        raise
    except Exception as error:  # noqa: BLE001 - the border to the hubs' clients, whose errors share no class
        said = str(error).strip().splitlines()
        raise WeightsError(
            f"{place.hub}:{place.id}: not fetched ({said[0][:200] if said else type(error).__name__}): "
            "check the connection and pull again, it goes on where it stopped"
        ) from error


def _seal(place: Source, folder: Path) -> None:
    """Compare with the published sums and record those of every file, for ``verify``."""
    known = {file.path: file for file in place.files}
    sums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith(".") or name == SUMS_FILE:
            continue
        digest, size = sha256(path), path.stat().st_size
        if name in known and not digest.startswith(known[name].sha256):
            path.unlink()
            raise WeightsError(f"{place.id}: {name} is not the published file: pull again")
        sums[name] = {"bytes": size, "sha256": digest}
    if not any(name.endswith((".safetensors", ".bin", ".pth")) for name in sums):
        raise WeightsError(f"{place.hub}:{place.id}: no weights came: the repository may have moved")
    (folder / SUMS_FILE).write_text(json.dumps({"files": sums}, indent=1) + "\n", encoding="utf-8")


def _client(hub: str) -> Fetch:
    """The hub's own client.

    Raises:
        MissingExtraError: it is not installed, or too old.
    """
    require_recent("hub", {"huggingface": "huggingface_hub", "modelscope": "modelscope-hub"}[hub])
    try:
        return _from_huggingface() if hub == "huggingface" else _from_modelscope()
    except ImportError as error:
        raise MissingExtraError("pulling models needs an extra: pip install 'kinescribe[hub]'") from error


def _from_huggingface() -> Fetch:
    from huggingface_hub import HfApi, snapshot_download

    def fetch(name: str, folder: Path, patterns: Sequence[str]) -> object:
        # asked for first: a client that gets no answer later takes the half folder of an earlier pull for the whole
        revision = HfApi().model_info(name).sha
        return snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=list(patterns))

    return fetch


def _from_modelscope() -> Fetch:
    from modelscope_hub.compat.snapshot_download import snapshot_download

    return lambda name, folder, patterns: snapshot_download(
        name, local_dir=str(folder), allow_patterns=list(patterns)
    )
