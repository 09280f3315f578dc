"""Whose weights a file holds, by the names of its tensors; what a model of the catalog needs, by its row.

Text-to-video and video-to-video UNets have the same names and shapes: only a configuration, or the user, tells
them apart.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from kinescribe.catalog import ModelSpec
from kinescribe.errors import WeightsError

Family = Literal["text-to-video", "video-to-video", "image-to-video", "i2vgen-xl"]
"""Models whose networks have the same tensors; "image-to-video" is ModelScope's first stage."""

TITLES: dict[Family, str] = {
    "text-to-video": "a text-to-video model",
    "video-to-video": "a video-to-video model",
    "image-to-video": "ModelScope Image-to-Video",
    "i2vgen-xl": "I2VGen-XL (image-to-video)",
}
CONDITIONS = (
    r"^(fps_embedding|context_embedding|local_image_concat|local_image_embedding|local_temporal_encoder"
    r"|image_latents_(proj_in|context_embedding|temporal_encoder))\."
)
"""Names of the conditions that lie in the file of an image-to-video UNet, in either layout."""

_LOCAL = re.compile(r"^(local_image_|local_temporal_|image_latents_)")
_GLOBAL = re.compile(r"^context_embedding")
# Relatives that share the trunk and are not supported, under either layout's names.
_STRANGERS = (
    (
        r"(lora_(up|down|A|B)|_lora)\b",
        "a low-rank adapter (InstructVideo or LoRA; --lora adds one to a model), not whole weights",
    ),
    (r"adapter\.", "a DreamVideo adapter, not whole weights"),
    (r"^(a|m)sim_embedding\.", "HiGen"),
    (r"^((single_)?sketch|depth|motion|masked|canny)_embedding", "VideoComposer"),
    (r"^pre_image_condition\.", "VideoComposer or TF-T2V"),
    (r"^(add|class|label)_embedding\.|^label_emb\.", "an image model"),
)


def family_of(spec: ModelSpec) -> Family:
    """The family of a row of the catalog."""
    if spec.picture is not None and spec.picture.first_frame:
        return "i2vgen-xl"
    return spec.kind


def require_family(path: Path, found: Family, spec: ModelSpec) -> None:
    """Raise ``WeightsError`` if ``path`` holds another family than ``spec`` is of."""
    wanted = family_of(spec)
    if found != wanted:
        raise WeightsError(
            f"{path}: {TITLES[found]}, but {spec.name} is {TITLES[wanted]}: leave that name out (--as), "
            "or give the folder of that model"
        )


def looks_like(names: Iterable[str], wanted: Family) -> str | None:
    """Whose weights these names of a UNet's file are, in a sentence with what to do; None if they are ``wanted``."""
    names = list(names)
    for pattern, stranger in _STRANGERS:
        if any(re.search(pattern, name) for name in names):
            return f"this looks like {stranger}: choose a model of kinescribe models list"
    pictured = wanted in ("image-to-video", "i2vgen-xl")
    found: Family | None = None
    if any(_LOCAL.match(name) for name in names):
        found = "i2vgen-xl"
    elif any(_GLOBAL.match(name) for name in names):
        found = "image-to-video"
    elif any(name.startswith("fps_embedding.") for name in names):
        return "this looks like an image-to-video or fps-conditioned model, in part: choose a whole one"
    elif pictured:
        return (
            f"this looks like a text-to-video or video-to-video UNet, not {TITLES[wanted]}: it has no place for a "
            "picture, load it as what it is"
        )
    if found is None or found == wanted:
        return None
    return (
        f"this looks like {TITLES[found]}, not {TITLES[wanted]}: load it as what it is (--as for a bare file)"
    )
