"""``kinescribe.load``: a name or a folder in, a pipeline out."""

from pathlib import Path
from typing import Literal, overload

import torch

from kinescribe.catalog import CATALOG, DEFAULT_MODEL, Kind
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components, locate
from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.pipelines.checks import require_kind
from kinescribe.pipelines.device import pick_device, pick_dtype
from kinescribe.pipelines.image_to_video import ImageToVideoPipeline
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.text_to_video import TextToVideoPipeline
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline

Pipeline = TextToVideoPipeline | ImageToVideoPipeline | VideoToVideoPipeline

PIPELINES: dict[Kind, type[Pipeline]] = {
    "text-to-video": TextToVideoPipeline,
    "image-to-video": ImageToVideoPipeline,
    "video-to-video": VideoToVideoPipeline,
}
"""What makes clips of each kind."""


@overload
def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    task: Literal["text-to-video"],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
) -> TextToVideoPipeline: ...
@overload
def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    task: Literal["image-to-video"],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
) -> ImageToVideoPipeline: ...
@overload
def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    task: Literal["video-to-video"],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
) -> VideoToVideoPipeline: ...
@overload
def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    task: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
) -> Pipeline: ...
def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    task: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
) -> Pipeline:
    """Load a model by catalog name, or from a folder in any published layout; never touches the network.

    ``task`` is text-to-video, image-to-video or video-to-video, None what the model is for; text-to-video models
    can do video-to-video too. ``device`` is auto, cuda, cuda:1, mps or cpu; ``dtype`` auto, float16, bfloat16 or
    float32; ``variant`` names a set of files beside the plain one (fp16). Raises ``WeightsError`` for anything
    wrong with the files, ``OptionError`` for a task that the model is not for, or a device or dtype that is not
    there, ``MemoryLimitError`` if it does not fit.
    """
    kind = None if task is None else _known_task(task)
    where = pick_device(device)
    number_format = pick_dtype(dtype, where)
    if kind is not None:  # before gigabytes are read
        known = CATALOG.get(str(model))
        require_kind(known or describe(locate(model), variant=variant, spec=None).spec, kind)
    with stage("loading"):
        components = load_components(model, device=where, dtype=number_format, variant=variant)
        if dtype in ("auto", "float16") and where.type == "cpu":
            _widen(components)
    return PIPELINES[kind or components.spec.kind](components)


def _known_task(task: str) -> Kind:
    for kind in PIPELINES:
        if kind == task:
            return kind
    raise OptionError(f"task={task!r}: use one of {', '.join(PIPELINES)}")


def _widen(components: Components) -> None:
    """Everything but the UNet in float32: small beside it, and bfloat16 would show as banding."""
    for network in (components.vae, components.text, components.vision):
        if network is not None:
            network.float()
