"""`kinescribe models`: what models there are, whether their files are good, and changing layouts."""

from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from kinescribe.catalog import ModelSpec
from kinescribe.cli import flags
from kinescribe.cli.inspect import say_lora
from kinescribe.cli.loras import parse_lora
from kinescribe.cli.terminal import Speaker
from kinescribe.errors import WeightsError

models = cyclopts.App(name="models", help="List, check, convert, verify, fetch and remove models.")

Name = Annotated[str, Parameter(help="A name from `kinescribe models list`.")]
Names = Annotated[str, Parameter(help="Names or folders; without any, every model on this computer.")]
Place = Annotated[
    str, Parameter(help="A model folder, a bare weight file, or a name from `kinescribe models list`.")
]
Out = Annotated[Path, Parameter(help="The folder to write.")]
To = Annotated[str, Parameter(help="Layout to write: native, diffusers or modelscope.")]
KeptDType = Annotated[
    str | None,
    Parameter(name="--dtype", help="float16, bfloat16 or float32; without it numbers stay as stored."),
]
Variant = Annotated[str | None, Parameter(help="A set of files beside the plain one, such as fp16.")]
AsModel = Annotated[
    str | None,
    Parameter(name="--as", help="The model of the catalogue whose schedule and defaults a bare file takes."),
]
Base = Annotated[str | None, Parameter(help="A model folder that gives the parts which the first one lacks.")]


@models.command(name="list")
def list_(*, as_json: flags.AsJson = False, terminal: Speaker) -> None:
    """List every known model, and which are on this computer."""
    from kinescribe.checkpoints.store import list_models

    rows = [
        {
            "name": model.name,
            "kind": model.spec.kind if model.spec else "unknown",
            "here": model.path is not None,
            "bytes": model.bytes,
            "licence": model.spec.licence if model.spec else "unknown",
            "title": model.spec.title if model.spec else "not in the catalogue",
        }
        for model in list_models()
    ]
    if as_json:
        terminal.data(rows)
        return
    width, wide = (max(len(str(row[key])) for row in rows) for key in ("name", "kind"))
    for row in rows:
        here, size = "here" if row["here"] else "-", in_words(int(str(row["bytes"])))
        kind = f"{row['kind']:<{wide}}"
        terminal.result(f"{row['name']:<{width}}  {kind}  {here:<4}  {size:>8}  {row['title']}")


@models.command
def show(name: Name, *, as_json: flags.AsJson = False, terminal: Speaker) -> None:
    """Show all that is known of a model: licence, defaults, sources, faults."""
    from kinescribe.catalog import model_spec
    from kinescribe.checkpoints.store import model_folder

    spec = model_spec(name)
    facts = _facts(spec) | {"path": str(model_folder(spec) or "not on this computer")}
    if as_json:
        terminal.data(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            terminal.result(f"{key:<{width}} {line}")


def _facts(spec: ModelSpec) -> dict[str, Any]:
    from dataclasses import asdict

    special = spec.picture or spec.refinement
    tables = (asdict(spec.defaults), asdict(special) if special else {})
    facts = {name.replace("_", " "): value for table in tables for name, value in table.items()}
    return {
        "name": spec.name,
        "title": spec.title,
        "kind": spec.kind,
        "licence": spec.licence,
        **{name: value for name, value in facts.items() if value is not None},
        "trained frames": spec.trained_frames,
        "size grid": spec.grid,
        **({"row remainder": spec.row_remainder} if spec.row_remainder else {}),
        "sources": [f"{s.hub}:{s.id} ({s.layout}, {s.bytes / 1e9:.1f} GB)" for s in spec.sources] or ["none"],
        "notes": list(spec.notes),
    }


@models.command
def check(
    folder: Place, *, variant: Variant = None, as_json: flags.AsJson = False, terminal: Speaker
) -> None:
    """Name every expected file of a model folder as found, missing, wrong or damaged; exit code 3 unless all fits."""
    from dataclasses import asdict

    from kinescribe.checkpoints.check import check_folder
    from kinescribe.checkpoints.load import locate
    from kinescribe.checkpoints.lora_file import is_lora

    if is_lora(Path(folder).expanduser()):
        say_lora(Path(folder), as_json=as_json, terminal=terminal)
        return
    report = check_folder(locate(folder), variant=variant)
    if as_json:
        terminal.data({**asdict(report), "path": str(report.path), "ok": report.ok})
    else:
        kind = f", {report.kind}" if report.kind else ""
        terminal.result(f"layout  {report.layout or 'none'}{kind}, model {report.model}")
        for item in report.items:
            size = in_words(item.bytes) if item.bytes else ""
            terminal.result(
                f"{item.state:<8} {item.name}  {'; '.join(filter(None, (item.role, size, item.detail)))}"
            )
    if not report.ok:
        bad = [item.name for item in report.items if item.state not in ("found", "absent")]
        raise WeightsError("; ".join([f"{folder}: {', '.join(bad) or 'no model'}", *report.advice]))


@models.command
def verify(*names: Names, as_json: flags.AsJson = False, terminal: Speaker) -> None:
    """Hash every weight file and compare it with what was written or published; exit code 3 if one differs."""
    from kinescribe.checkpoints.check import verify as compare
    from kinescribe.checkpoints.store import list_models

    here = [model.name for model in list_models() if model.path is not None]
    rows = []
    for name in names or here:
        report = compare(name)
        for verdict in report.files:
            file = verdict.path.relative_to(report.path) if report.path.is_dir() else verdict.path.name
            rows.append({"model": name, "file": str(file), "state": verdict.state, "detail": verdict.detail})
            if not as_json:
                terminal.result(f"{verdict.state:<8} {name}/{file}  {verdict.detail}")
    if as_json:
        terminal.data(rows)
    elif not rows:
        terminal.note("no model on this computer: see kinescribe models list")
    bad = [f"{row['model']}/{row['file']}" for row in rows if row["state"] not in ("intact", "unknown")]
    if bad:
        raise WeightsError(
            f"{len(bad)} of {len(rows)} files differ, first {bad[0]}: fetch or convert it again"
        )


@models.command
def pull(
    name: Name,
    *,
    source: Annotated[
        str | None,
        Parameter(help="huggingface, modelscope, a published id or a layout; the first one if unset."),
    ] = None,
    dry_run: Annotated[bool, flags.Flag, Parameter(help="Only say what would be fetched.")] = False,
    as_json: flags.AsJson = False,
    terminal: Speaker,
) -> None:
    """Fetch a published model into this computer's store; the licence is shown first. Resumes where it stopped."""
    from kinescribe.checkpoints.hub import pull as fetch

    report = fetch(name, source, dry_run, tell=terminal.note)
    if as_json:
        terminal.data({key: _plain(value) for key, value in vars(report).items()})
        return
    where = f"{report.hub}:{report.id}"
    terminal.result(
        f"{report.target}  {report.state}, {in_words(report.bytes)} from {where}, {report.licence}"
    )


@models.command
def convert(
    source: Place,
    out: Out,
    *,
    to: To = "native",
    dtype: KeptDType = None,
    variant: Variant = None,
    as_model: AsModel = None,
    base: Base = None,
    lora: flags.LoraFiles = (),
    allow_partial: flags.AllowPartial = False,
    overwrite: flags.Overwrite = False,
    as_json: flags.AsJson = False,
    terminal: Speaker,
) -> None:
    """Write a model in another layout, or with LoRAs in it; every tensor is compared before the folder appears."""
    from kinescribe.checkpoints.convert import convert as write

    terminal.note(f"reading {source}")
    loras = [(choice.path, choice.strength) for choice in map(parse_lora, lora)]
    report = write(
        source, out, to, dtype,
        variant=variant, as_model=as_model, base=base, overwrite=overwrite, loras=loras, allow_partial=allow_partial,
    )  # fmt: skip
    if as_json:
        terminal.data({name: _plain(value) for name, value in vars(report).items()})
        return
    for line in report.loras:
        terminal.note(f"with {line}")
    for line in report.left_out:
        terminal.note(f"left out, not needed: {line}")
    for line in report.cannot_hold:
        terminal.note(f"the {report.to} layout has no place for: {line}")
    size = in_words(report.bytes)
    terminal.result(
        f"{report.target.absolute()}  {report.to}, {size}, {report.tensors} tensors equal to the source"
        + (" and its LoRAs" if report.loras else "")
    )


@models.command
def rm(name: Name, *, terminal: Speaker) -> None:
    """Delete a fetched or converted model from this computer's store."""
    from kinescribe.checkpoints.store import remove

    freed = remove(name)
    terminal.result(f"{name} removed, {in_words(freed)} freed")


def in_words(size: int) -> str:
    """A number of bytes for people; 0 is an unknown size."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size else "?"


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
