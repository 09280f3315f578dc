"""The only table of models: what each was made for, where it is published, under which licence, with which faults.

Plain data, importable without torch: the command line lists models from here in a few milliseconds.
"""

import difflib

from kinescribe.catalog.image_to_video import IMAGE_TO_VIDEO
from kinescribe.catalog.spec import (
    Defaults,
    Hub,
    Kind,
    Layout,
    ModelSpec,
    Noise,
    PictureInput,
    PublishedFile,
    Refinement,
    Source,
)
from kinescribe.catalog.text_to_video import TEXT_TO_VIDEO
from kinescribe.catalog.video_to_video import VIDEO_TO_VIDEO
from kinescribe.errors import OptionError

__all__ = [
    "CATALOG",
    "DEFAULT_MODEL",
    "Defaults",
    "Hub",
    "Kind",
    "Layout",
    "ModelSpec",
    "Noise",
    "PictureInput",
    "PublishedFile",
    "Refinement",
    "Source",
    "default_model",
    "find_spec",
    "model_spec",
]

DEFAULT_MODEL = "papercut-quick"

CATALOG: dict[str, ModelSpec] = {
    spec.name: spec for spec in (*TEXT_TO_VIDEO, *IMAGE_TO_VIDEO, *VIDEO_TO_VIDEO)
}
"""Every known model by name, the embedded default first."""


def default_model(task: Kind) -> str:
    """The name of the embedded model for a task: it comes with the package."""
    return next(spec.name for spec in CATALOG.values() if spec.embedded and spec.kind == task)


def find_spec(name: str) -> ModelSpec | None:
    """The model called ``name``: its name here, a published id, or that id's last part; None if unknown."""
    wanted = _plain(name)
    for spec in CATALOG.values():
        published = (part for source in spec.sources for part in (source.id, source.id.rpartition("/")[2]))
        if wanted in {_plain(spec.name), *map(_plain, published)}:
            return spec
    return None


def model_spec(name: str) -> ModelSpec:
    """The model called ``name``.

    Raises:
        OptionError: no such model; the message lists the nearest names.
    """
    spec = find_spec(name)
    if spec is None:
        near = difflib.get_close_matches(name, CATALOG, n=3, cutoff=0.4) or list(CATALOG)
        raise OptionError(f"unknown model {name!r}: use {', '.join(near)}, or the path of a model folder")
    return spec


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace("damo-vilab/", "ali-vilab/").replace("damo/", "iic/")
