"""What is in a model folder, file by file, without loading it; and whether its bytes are those published."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinescribe.catalog import Layout
from kinescribe.checkpoints import diffusers, modelscope
from kinescribe.checkpoints.detect import describe, known_by_name, layout_of
from kinescribe.checkpoints.files import read_json
from kinescribe.checkpoints.load import locate
from kinescribe.checkpoints.read import is_finite, open_weights
from kinescribe.checkpoints.source import Part, Source
from kinescribe.checkpoints.store import CONFIG_FILE, FileVerdict, recorded_sums, verify_files
from kinescribe.errors import WeightsError

State = Literal["found", "missing", "wrong", "damaged", "absent"]
"""``wrong``: tensors missing, unexpected or of another shape. ``absent``: not there, and not needed."""


@dataclass(frozen=True, kw_only=True)
class FileItem:
    """One expected file: its path within the folder, its role, its state, and what there is to say."""

    name: str
    role: str
    state: State
    bytes: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What a path is and what of it is there; ``advice`` says what to do, one sentence each."""

    path: Path
    layout: Layout | None
    model: str
    """The catalog's name if the folder bears a published one, else its own."""
    items: tuple[FileItem, ...]
    advice: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Everything needed is there and fits."""
        return self.layout is not None and all(item.state in ("found", "absent") for item in self.items)


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """The verdict on every weight file. ``recorded`` says whether there were sums to compare with."""

    path: Path
    recorded: bool
    files: tuple[FileVerdict, ...]

    @property
    def ok(self) -> bool:
        """No file is missing or changed."""
        return all(verdict.state in ("intact", "unknown") for verdict in self.files)


def check_folder(path: str | Path, *, variant: str | None = None) -> FolderReport:
    """Name every expected file of a model folder as found, missing, wrong or damaged; nothing is raised.

    Configurations are read whole, of weights only the names and shapes.
    """
    path = Path(path).expanduser()
    try:
        layout = layout_of(path)
    except WeightsError as error:
        return FolderReport(path=path, layout=None, model=path.name, items=(), advice=(str(error),))
    items = list(_configurations(path, layout))
    advice = []
    try:
        source = describe(path, variant=variant, spec=None)
    except WeightsError as error:
        items += _weights_by_name(path, layout, variant)
        advice.append(str(error))
        # What a configuration says may be the fault, though every file is there.
        if all(item.state in ("found", "absent") for item in items):
            items.append(_item(path, path, "model", "wrong", "its configuration does not fit"))
    else:
        items += [item for part in source.parts for item in _weights(path, part)]
        advice += _stand_ins(source)
    known = known_by_name(path)
    model = known.name if known else path.name
    return FolderReport(path=path, layout=layout, model=model, items=tuple(items), advice=tuple(advice))


def verify(path: str | Path, *, variant: str | None = None) -> VerifyReport:
    """Hash every file and compare it with the sum it was written, pulled or published with.

    Files without a known sum are read whole instead: their structure and their numbers must make sense.

    Raises:
        WeightsError: no model at ``path`` (a name or a folder), or its configuration cannot be read.
    """
    folder = locate(path)
    sums = recorded_sums(folder) if folder.is_dir() else None
    if sums is not None:
        verdicts = verify_files(folder, sums, cached=False)
        return VerifyReport(path=folder, recorded=True, files=tuple(verdicts))
    source = describe(folder, variant=variant, spec=None)
    published = {
        file.path: (file.bytes, file.sha256) for place in source.spec.sources for file in place.files
    }
    verdicts = []
    for part in source.parts:
        for file in part.files:
            name = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
            verdicts.append(_published_or_sound(folder, name, file, published))
    return VerifyReport(
        path=folder, recorded=any(v.state == "intact" for v in verdicts), files=tuple(verdicts)
    )


def _published_or_sound(
    folder: Path, name: str, file: Path, published: dict[str, tuple[int, str]]
) -> FileVerdict:
    if name in published and published[name][0] == file.stat().st_size:
        return verify_files(folder, {name: published[name]}, cached=False)[0]
    try:
        weights = open_weights([file])
        bad = next((key for key in weights.shapes if not is_finite(weights.read(key))), None)
    except WeightsError as error:
        return FileVerdict(path=file, state="changed", detail=str(error))
    if bad is not None:
        return FileVerdict(path=file, state="changed", detail=f"{bad} holds numbers that are not finite")
    return FileVerdict(
        path=file, state="unknown", detail="no sum is known; it is whole and its numbers are finite"
    )


def _configurations(path: Path, layout: Layout) -> Iterator[FileItem]:
    """The small files: ``(file, role, needed)``, each read if it is a JSON table."""
    files: list[tuple[Path, str, bool]] = []
    if layout == "native":
        files = [(path / CONFIG_FILE, "configuration", True)]
    elif layout == "modelscope":
        files = [(path / modelscope.CONFIGURATION, "configuration", False)]
    elif layout == "diffusers":
        parts = ("unet", "vae", "text_encoder")
        files = [(path / diffusers.INDEX, "index", False)]
        files += [(path / part / "config.json", "configuration", True) for part in parts]
        files.append((path / "scheduler" / "scheduler_config.json", "schedule", True))
    for file, role, needed in files:
        yield _configuration(path, file, role, needed)
    if layout == "diffusers":
        yield from _tokenizer(path)


def _configuration(path: Path, file: Path, role: str, needed: bool) -> FileItem:
    if not file.is_file():
        state: State = "missing" if needed else "absent"
        return _item(path, file, role, state, "" if needed else "what it would say is assumed as published")
    try:
        read_json(file)
    except WeightsError as error:
        return _item(path, file, role, "damaged", str(error))
    return _item(path, file, role, "found", "")


def _tokenizer(path: Path) -> Iterator[FileItem]:
    folder = path / "tokenizer"
    pair = [folder / "vocab.json", folder / "merges.txt"]
    whole = folder / "tokenizer.json"
    for file in [whole] if whole.is_file() and not all(f.is_file() for f in pair) else pair:
        yield _item(path, file, "tokenizer", "found" if file.is_file() else "missing", "")


def _weights(path: Path, part: Part) -> list[FileItem]:
    if not part.files:
        return [_item(path, Path(name), part.name, "missing", "") for name in part.wanted.split(", ")]
    try:
        weights = open_weights(part.files)
        names, ignored = part.names(weights)
    except WeightsError as error:
        return [_item(path, file, part.name, "damaged", str(error)) for file in part.files[:1]]
    report = part.keymap.report({name: weights.shapes[there] for name, there in names.items()})
    if not report.ok:
        detail = f"{report}; {part.guess(names, report)}"
        return [_item(path, file, part.name, "wrong", detail) for file in part.files]
    kind = str(weights.dtype).removeprefix("torch.")
    detail = f"{len(names)} tensors, {kind}" + (f", {len(ignored)} not needed" if ignored else "")
    return [_item(path, file, part.name, "found", detail) for file in part.files]


def _weights_by_name(path: Path, layout: Layout, variant: str | None) -> list[FileItem]:
    """Where the configuration cannot be used: whether the weight files are there at all."""
    found: list[tuple[str, tuple[Path, ...], str]] = []
    if layout == "diffusers":
        for name, role in (("unet", "unet"), ("vae", "vae"), ("text_encoder", "text")):
            found.append((role, *diffusers.find_weights(path / name, variant)))
    elif layout == "modelscope":
        places = modelscope.file_names(path)
        found = [
            (role, modelscope.weights_at(path / name), str(path / name)) for role, name in places.items()
        ]
    elif layout == "native":
        names = [path / f"{role}.safetensors" for role in ("unet", "vae", "text")]
        found = [(file.stem, (file,) if file.is_file() else (), str(file)) for file in names]
    items = []
    for role, files, wanted in found:
        items += [_item(path, file, role, "found", "not examined") for file in files]
        items += (
            [] if files else [_item(path, Path(name), role, "missing", "") for name in wanted.split(", ")]
        )
    return items


def _stand_ins(source: Source) -> list[str]:
    """What may be taken for a missing network, and where."""
    absent = [part for part in source.parts if not part.files]
    shared = [part.name for part in absent if part.name != "unet"]
    advice = []
    if any(part.name == "unet" for part in absent):
        advice.append("the UNet is the model itself, nothing stands in for it: fetch the folder again")
    if shared and source.layout == "native":
        advice.append("convert or fetch the folder again: our own folders are whole")
    elif shared:
        what = " and ".join({"vae": "the autoencoder", "text": "the text tower"}[name] for name in shared)
        advice.append(
            f"{what} of any folder of modelscope-1.7b will do: copy the file, or name that folder as base (--base DIR)"
        )
    return advice


def _item(path: Path, file: Path, role: str, state: State, detail: str) -> FileItem:
    inside = file.is_relative_to(path) and file != path
    name = file.relative_to(path).as_posix() if inside else file.name
    size = file.stat().st_size if file.is_file() else 0
    return FileItem(name=name, role=role, state=state, bytes=size, detail=detail)
