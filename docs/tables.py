"""Write the generated tables of the pages: options from `kinescribe.options`, models from `kinescribe.catalog`.

Run by `make docs`; a test compares the pages with what this file would write.
"""

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
PAGES = ("generate.md", "animate.md", "refine.md", "models.md")


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


TABLES = {
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
