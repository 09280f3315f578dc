"""What is in a model folder, file by file, without loading it; and whether its bytes are those published."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinescribe.catalog import Kind, Layout
from kinescribe.checkpoints import diffusers, modelscope
from kinescribe.checkpoints.added import own
from kinescribe.checkpoints.detect import describe, known_by_name, layout_of
from kinescribe.checkpoints.files import read_json
from kinescribe.checkpoints.load import locate
from kinescribe.checkpoints.read import WeightFile, is_finite, open_weights
from kinescribe.checkpoints.source import Part, Source, shared_files, stand_in, unneeded
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
    kind: Kind | None
    """What the model does; None where that cannot be told."""
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
        return FolderReport(
            path=path, layout=None, kind=None, model=path.name, items=(), advice=(str(error),)
        )
    items, kind = list(_configurations(path, layout)), None
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
        kind = source.spec.kind
        items += _networks(path, source)
        advice += _stand_ins(source)
    known = known_by_name(path)
    model = known.name if known and kind in (None, known.kind) else path.name
    return FolderReport(
        path=path, layout=layout, kind=kind, model=model, items=tuple(items), advice=tuple(advice)
    )


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
    for file in dict.fromkeys(file for part in source.parts for file in part.files):
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
        files = [(path / diffusers.INDEX, "index", False)]
        files += [(path / part / "config.json", "configuration", True) for part in _places(path)]
        files.append((path / "scheduler" / "scheduler_config.json", "schedule", True))
        if "image_encoder" in _places(path):
            files.append((path / diffusers.PREPROCESSOR, "pictures", False))
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


def _places(path: Path) -> dict[str, str]:
    """The subfolders of a diffusers folder that hold networks, with their roles."""
    places = {"unet": "unet", "vae": "vae", "text_encoder": "text"}
    try:
        pictured = diffusers.family_of_index(path) == "i2vgen-xl"
    except WeightsError:
        pictured = False
    return places | ({"image_encoder": "vision"} if pictured else {})


def _networks(path: Path, source: Source) -> Iterator[FileItem]:
    """Every weight file once, in the order of the parts."""
    groups, told = shared_files(source.parts), set()
    for part in source.parts:
        key = part.files or part.wanted
        if key in told:
            continue
        told.add(key)
        if part.files:
            yield from _weights(path, part.files, groups[part.files])
        else:
            role = " and ".join(other.name for other in source.parts if other.wanted == part.wanted)
            yield from (_item(path, Path(name), role, "missing", "") for name in part.wanted.split(", "))
    if source.lora is not None and not source.lora.is_file():
        yield _item(path, source.lora, "lora", "missing", "")
    elif source.lora is not None:
        try:
            (lora, _), *_ = own(source)
        except WeightsError as error:
            yield _item(path, source.lora, "lora", "damaged", str(error))
        else:
            yield _item(path, source.lora, "lora", "found", f"{lora.matched} layers")


def _weights(path: Path, files: tuple[Path, ...], parts: list[Part]) -> list[FileItem]:
    """What is in the files that some parts share: one item a file."""
    role = " and ".join(part.name for part in parts)
    try:
        weights = open_weights(files)
        reports = [_fit(part, weights) for part in parts]
        ignored = unneeded(parts, weights)
    except WeightsError as error:
        return [_item(path, file, role, "damaged", str(error)) for file in files[:1]]
    wrong = [text for text, fits in reports if not fits]
    if wrong:
        return [_item(path, file, role, "wrong", "; ".join(wrong)) for file in files]
    kind = str(weights.dtype).removeprefix("torch.")
    used = len(weights.shapes) - len(ignored)
    detail = f"{used} tensors, {kind}" + (f", {len(ignored)} not needed" if ignored else "")
    return [_item(path, file, role, "found", detail) for file in files]


def _fit(part: Part, weights: WeightFile) -> tuple[str, bool]:
    """Whether a part finds its tensors, and what it lacks."""
    names, _ = part.names(weights)
    report = part.keymap.report({name: weights.shapes[there] for name, there in names.items()})
    return f"{report}; {part.guess(weights.shapes, report)}", report.ok


def _weights_by_name(path: Path, layout: Layout, variant: str | None) -> list[FileItem]:
    """Where the configuration cannot be used: whether the weight files are there at all."""
    found: list[tuple[str, tuple[Path, ...], str]] = []
    if layout == "diffusers":
        for place, role in _places(path).items():
            found.append((role, *diffusers.find_weights(path / place, variant)))
    elif layout == "modelscope":
        places = modelscope.file_names(path)
        found = [
            (role, modelscope.weights_at(path / name), str(path / name)) for role, name in places.items()
        ]
    elif layout == "native":
        names = [path / f"{role}.safetensors" for role in ("unet", "vae", "text")]
        names += [
            file for role in ("conditions", "vision") if (file := path / f"{role}.safetensors").is_file()
        ]
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
    own = any(part.name in ("unet", "conditions") for part in absent)
    shared = [part for part in absent if part.name not in ("unet", "conditions")]
    advice = []
    if own:
        advice.append("the UNet is the model itself, nothing stands in for it: fetch the folder again")
    if shared and source.layout == "native":
        advice.append("convert or fetch the folder again: our own folders are whole")
    elif shared:
        titles = {"vae": "the autoencoder", "text": "the text tower", "vision": "the image tower"}
        what = " and ".join(titles[part.name] for part in shared)
        advice.append(
            f"{what} of any folder of {stand_in(shared)} will do: copy the file, or name that folder as base "
            "(--base DIR)"
        )
    return advice


def _item(path: Path, file: Path, role: str, state: State, detail: str) -> FileItem:
    inside = file.is_relative_to(path) and file != path
    name = file.relative_to(path).as_posix() if inside else file.name
    size = file.stat().st_size if file.is_file() else 0
    return FileItem(name=name, role=role, state=state, bytes=size, detail=detail)
