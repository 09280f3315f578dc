"""Write the generated tables of the pages: options from `kinescribe.options`, models from `kinescribe.catalog`.

Run by `make docs`; a test compares the pages with what this file would write.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import kinescribe.errors
from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.options import ImageToVideo, Request, TextToVideo, VideoToVideo
from kinescribe.world.clip import CAMERAS, COLOURS, MOTIONS, SCENES, SIZES, SUBJECTS, TIMES

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PAGES = ("generate.md", "animate.md", "refine.md", "models.md", "memory.md", "presets.md")
UNMEASURED = "Not measured yet."


def write() -> None:
    """Bring every page's tables up to date."""
    for page in PAGES:
        path = DOCS / page
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """The page with each block between `<!-- table: name -->` and `<!-- end -->` written anew."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", block, page, flags=re.DOTALL)


def options() -> str:
    """Every field of a request for a clip from text, as a flag and as a keyword."""
    return _fields(TextToVideo, ("prompt",))


def picture_options() -> str:
    """What a clip from a picture may be asked beside that."""
    return _fields(ImageToVideo, TextToVideo.model_fields)


def clip_options() -> str:
    """What a clip that is made anew may be asked beside that."""
    return _fields(VideoToVideo, TextToVideo.model_fields)


def _fields(kind: type[Request], elsewhere: Collection[str]) -> str:
    rows = [
        (
            f"`--{name.replace('_', '-')}`",
            f"`{name}`",
            _values(field.annotation),
            _range(field),
            field.description,
        )
        for name, field in kind.model_fields.items()
        if name not in elsewhere
    ]
    return _table(("flag", "keyword", "values", "range", "what it does"), rows)


def models() -> str:
    """Every model of the catalog with what it was made for."""
    rows = [
        (
            f"`{spec.name}`",
            spec.title,
            _size(spec),
            f"{spec.defaults.steps}, {spec.defaults.sampler}",
            spec.licence,
        )
        for spec in CATALOG.values()
    ]
    return _table(("name", "what", "frames, pixels", "steps", "licence of the weights"), rows)


def errors() -> str:
    """Every error class with the exit code of the command line."""
    kinds = [kind for kind in vars(kinescribe.errors).values() if hasattr(kind, "exit_code")]
    rows = [(str(kind.exit_code), f"`{kind.__name__}`", (kind.__doc__ or "").strip()) for kind in kinds]
    return _table(("exit code", "class", "when"), sorted(rows, key=lambda row: int(row[0])))


def papercut() -> str:
    """What the embedded model's world holds."""
    kinds = {"subject": SUBJECTS, "colour": COLOURS, "scene": SCENES, "time of day": TIMES, "motion": MOTIONS}
    kinds |= {"size": SIZES, "camera": CAMERAS}
    return _table(("what", "known"), [(kind, ", ".join(words)) for kind, words in kinds.items()])


def rungs() -> str:
    """The rungs of memory, roomy first."""
    from kinescribe.perf.plan import RUNGS

    return _table(("rung", "what it does"), [(f"`{rung.name}`", rung.said) for rung in RUNGS])


def memory() -> str:
    """What a clip of the published model needs on each of them, in GB, the autoencoder with one frame at a time."""
    import torch

    from kinescribe.perf.demand import Work
    from kinescribe.perf.outline import published
    from kinescribe.perf.plan import Device, need, plans

    spec = CATALOG["modelscope-1.7b"]
    defaults = spec.defaults
    work = Work(
        frames=defaults.frames, window=defaults.frames, width=defaults.width, height=defaults.height,
        clips=1, guided=True, passes=defaults.steps, encoded=0,
    )  # fmt: skip
    model, full = published(spec, torch.float16, torch.float16), Device(kind="cuda", free=0)
    rows = [
        (
            f"`{plan.rung.name}`",
            *(f"{stage.peak / 1e9:.1f}" for stage in plan.stages),
            f"{need(plan) / 1e9:.1f}",
        )
        for plan in plans(model, work, full)
    ]
    return _table(("rung", *work.stages(model), "GB to be free"), rows)


def presets() -> str:
    """Speed and latent error of each preset, of the newest measurement."""
    measured = sorted(RESULTS.glob("*_presets.json"))
    if not measured:
        return UNMEASURED
    result = json.loads(measured[-1].read_text(encoding="utf-8"))
    rows = [
        (
            f"`{row['preset']}`",
            f"{row['seconds_per_clip']:.3f}",
            f"{row['times_as_fast']:.2f}",
            f"{row['latent_error']:.4f}",
        )
        for row in result["rows"]
    ]
    head = (f"{result['device']}, {result['date']}", "s/clip", "times as fast", "latent error")
    return _table(head, rows)


def judged_presets() -> str:
    """What the judge found right, of the newest examination of each preset; of "exact" one with as many prompts."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*_papercut_preset_*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        found[report["making"]["preset"] or "exact"] = report
    if not found:
        return UNMEASURED
    names = ("subject", "colour", "scene", "time", "motion", "four")
    rows = []
    for preset, report in found.items():
        shares = report["held_out"]["shares"]
        rows.append(
            (
                f"`{preset}`",
                str(report["making"]["count"]),
                *(f"{100 * shares[name]['share']:.1f}" for name in names),
            )
        )
    return _table(("preset", "prompts", *names), rows)


TABLES = {
    "presets": presets,
    "judged_presets": judged_presets,
    "rungs": rungs,
    "memory": memory,
    "options": options,
    "picture_options": picture_options,
    "clip_options": clip_options,
    "models": models,
    "errors": errors,
    "papercut": papercut,
}


def _values(annotation: Any) -> str:
    either = (annotation,) if get_origin(annotation) is Literal else get_args(annotation) or (annotation,)
    kinds = [kind for kind in either if kind is not NoneType]
    if isinstance(kinds[0], type):
        return {"str": "text", "int": "whole number", "float": "number", "bool": "yes or no"}[
            kinds[0].__name__
        ]
    return ", ".join(f"`{value}`" for value in get_args(kinds[0]))


def _range(field: Any) -> str:
    bounds = {
        name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le") if hasattr(m, name)
    }
    if "le" not in bounds:
        return ""
    low = f"above {bounds['gt']:g}" if "gt" in bounds else f"{bounds['ge']:g}"
    return f"{low} to {bounds['le']}"


def _size(spec: ModelSpec) -> str:
    return f"{spec.defaults.frames}, {spec.defaults.width}x{spec.defaults.height}"


def _table(head: tuple[str, ...], rows: list[tuple[str | None, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell or "" for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    write()
