"""``from modelscope.pipelines import pipeline``, with the module's foreign name."""

from pathlib import Path

import torch

from kinescribe.catalog import Kind, default_model
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import load_components, locate
from kinescribe.compat.modelscope.call import Door
from kinescribe.compat.modelscope.stages import ImageToVideo, VideoToVideo, folder_seed
from kinescribe.compat.modelscope.text_to_video import TextToVideoSynthesis
from kinescribe.errors import OptionError
from kinescribe.pipelines.checks import require_kind
from kinescribe.pipelines.device import pick_device, pick_dtype
from kinescribe.pipelines.image_to_video import ImageToVideoPipeline
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.stages import say
from kinescribe.pipelines.text_to_video import TextToVideoPipeline
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline


class Tasks:
    """Names of tasks; those this package has."""

    text_to_video_synthesis = "text-to-video-synthesis"
    image_to_video = "image-to-video"
    video_to_video = "video-to-video"


_KINDS: dict[str, Kind] = {
    Tasks.text_to_video_synthesis: "text-to-video",
    Tasks.image_to_video: "image-to-video",
    Tasks.video_to_video: "video-to-video",
}


def pipeline(
    task: str | None = None,
    model: str | Path | None = None,
    *,
    device: str = "gpu",
    model_revision: str | None = None,  # noqa: ARG001 - a folder has one revision
    variant: str | None = None,
) -> Door:
    """A pipeline from a folder, or the name of a model that is already on this computer.

    ``task`` is one of ``Tasks``; None is what the model is for. ``device`` is gpu, gpu:1, cuda, cuda:1 or cpu; where
    there is no such GPU it falls back to what there is, as the original does, and says so if one was named. Raises
    ``OptionError`` for another task than the model's, ``WeightsError`` for anything wrong with the folder.
    """
    if task is not None and task not in _KINDS:
        raise OptionError(f"task {task!r}: this package has {', '.join(_KINDS)}")
    where = _place(device)
    # in the originals the networks compute in float16 on a GPU; on a processor nothing but float32 comes near
    dtype = torch.float32 if where.type == "cpu" else pick_dtype("auto", where)
    if model is None:
        model = default_model("text-to-video" if task is None else _KINDS[task])
    folder = locate(model)
    spec = describe(folder, variant=variant, spec=None).spec
    kind = spec.kind if task is None else _KINDS[task]
    require_kind(spec, kind)
    with stage("loading"):
        components = load_components(model, device=where, dtype=dtype, variant=variant)
    if kind == "text-to-video":
        return TextToVideoSynthesis(TextToVideoPipeline(components))
    seed = folder_seed(folder)
    if seed is not None:
        torch.manual_seed(seed)
    if kind == "image-to-video":
        return ImageToVideo(ImageToVideoPipeline(components, strict=True))
    return VideoToVideo(VideoToVideoPipeline(components, strict=True))


def _place(device: str) -> torch.device:
    name = device.replace("gpu", "cuda")
    if device == "gpu" or (name.startswith("cuda") and not torch.cuda.is_available()):
        place = pick_device("auto")
        if device != "gpu":
            say(f"device={device!r}: no GPU of that kind on this machine, computing on {place.type}")
        return place
    return pick_device(name)
