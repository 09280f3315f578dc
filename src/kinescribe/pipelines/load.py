"""``kinescribe.load``: a name or a folder in, a pipeline out."""

from pathlib import Path
from typing import Literal, overload

import torch

from kinescribe.catalog import CATALOG, Kind, default_model
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components, locate, uncollected
from kinescribe.errors import OptionError
from kinescribe.ops.convolution import lay_channels_last
from kinescribe.perf.budget import Memory, parse_memory
from kinescribe.perf.calibration import LOST, WORKSPACE
from kinescribe.perf.fit import within
from kinescribe.perf.outline import outline_of
from kinescribe.perf.plan import Device
from kinescribe.pipelines import heap
from kinescribe.pipelines.checks import require_kind
from kinescribe.pipelines.device import dtype_of_towers, pick_device, pick_dtype, spare_threads
from kinescribe.pipelines.image_to_video import ImageToVideoPipeline
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.planning import known_free
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
    model: str | Path | None = None,
    *,
    task: Literal["text-to-video"],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory: str | int = "auto",
) -> TextToVideoPipeline: ...
@overload
def load(
    model: str | Path | None = None,
    *,
    task: Literal["image-to-video"],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory: str | int = "auto",
) -> ImageToVideoPipeline: ...
@overload
def load(
    model: str | Path | None = None,
    *,
    task: Literal["video-to-video"],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory: str | int = "auto",
) -> VideoToVideoPipeline: ...
@overload
def load(
    model: str | Path | None = None,
    *,
    task: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory: str | int = "auto",
) -> Pipeline: ...
def load(
    model: str | Path | None = None,
    *,
    task: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
    memory: str | int = "auto",
) -> Pipeline:
    """Load a model by catalog name, or from a folder in any published layout; never touches the network.

    Without ``model`` it is the one for the task that comes with the package, for text-to-video where no task is told.
    ``task`` is text-to-video, image-to-video or video-to-video, None what the model is for; text-to-video models
    can do video-to-video too. ``device`` is auto, cuda, cuda:1, mps or cpu; ``dtype`` auto, float16, bfloat16 or
    float32; ``variant`` names a set of files beside the plain one (fp16). ``memory`` is auto (what is free decides),
    roomy, low, or a size such as 8GB (a number is bytes), see docs/memory.md. Raises ``WeightsError`` for anything
    wrong with the files, ``OptionError`` for a task that the model is not for, or a device or dtype that is not
    there, ``MemoryLimitError`` if it does not fit.
    """
    kind = None if task is None else _known_task(task)
    model = default_model(kind or "text-to-video") if model is None else model
    budget = parse_memory(memory)
    where = pick_device(device)
    number_format = pick_dtype(dtype, where)
    spare_threads()
    if where.type == "cpu":
        heap.keep_freed()
    if kind is not None:  # before gigabytes are read
        known = CATALOG.get(str(model))
        require_kind(known or describe(locate(model), variant=variant, spec=None).spec, kind)
    with stage("loading"):
        home = _home(model, where, number_format, budget, variant)
        components = load_components(model, device=home, dtype=number_format, variant=variant)
        components.memory, components.works_on = budget, where if home != where else None
        for tower in (components.text, components.vision):
            if tower is not None:
                tower.to(dtype_of_towers(dtype, where))
        components.unet.lay_together()
        if where.type == "cuda":
            for one in (components.unet, components.vae, components.conditions, components.vision):
                if one is not None:
                    lay_channels_last(one)
    return PIPELINES[kind or components.spec.kind](components)


def _known_task(task: str) -> Kind:
    for kind in PIPELINES:
        if kind == task:
            return kind
    raise OptionError(f"task={task!r}: use one of {', '.join(PIPELINES)}")


@uncollected()
def _home(
    model: str | Path, device: torch.device, dtype: torch.dtype, memory: Memory, variant: str | None
) -> torch.device:
    """Where weights are read to: the device, unless it is a GPU without room for all; a plan brings them there."""
    if device.type != "cuda" or memory == "roomy":
        return device
    outline = outline_of(describe(locate(model), variant=variant, spec=None), dtype, dtype)
    free = within(Device(kind=device.type, free=known_free(device)), memory).free
    weights = round((1 + LOST) * sum(map(outline.bytes, outline.parts))) + WORKSPACE[device.type]
    return device if memory != "low" and weights <= free else torch.device("cpu")
