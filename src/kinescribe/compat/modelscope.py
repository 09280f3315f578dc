"""``pipeline``, ``Tasks`` and ``OutputKeys`` as scripts for ModelScope's text-to-video model use them.

    p = pipeline("text-to-video-synthesis", "models/text-to-video-synthesis")
    p({"text": "A panda eating bamboo on a rock."}, output_video="./output.mp4")[OutputKeys.OUTPUT_VIDEO]

What the original hard-codes is the default here: 50 steps of its own DDIM loop, guidance 9, 8 frames a second,
and noise from torch's global generator, so that ``torch.manual_seed`` before the call gives the original's
noise. What it cannot do, it can here: see ``TextToVideoSynthesis.__call__``.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.catalog import DEFAULT_MODEL
from kinescribe.checkpoints.load import load_components
from kinescribe.errors import OptionError
from kinescribe.media.video import Video
from kinescribe.options import text_to_video
from kinescribe.pipelines.device import pick_device, pick_dtype
from kinescribe.pipelines.settings import resolve
from kinescribe.pipelines.text_to_video import LATENT_CHANNELS, TextToVideoPipeline

TASK = "text-to-video-synthesis"
STEPS, GUIDANCE, FPS = 50, 9.0, 8.0

# The original's spellings, of which its own test passes two that it never reads, and ours.
_SPELLINGS = {
    "text": "prompt",
    "max_frames": "frames",
    "num_frames": "frames",
    "out_height": "height",
    "out_width": "width",
    "num_inference_steps": "steps",
    "ddim_steps": "steps",
    "guide_scale": "guidance",
    "guidance_scale": "guidance",
}


class Tasks:
    """Names of tasks; the one this package has."""

    text_to_video_synthesis = TASK


class OutputKeys:
    """Keys of a result."""

    OUTPUT_VIDEO = "output_video"


def pipeline(
    task: str | None = None,
    model: str | Path | None = None,
    *,
    device: str = "gpu",
    model_revision: str | None = None,  # noqa: ARG001 - a folder has one revision
    variant: str | None = None,
) -> "TextToVideoSynthesis":
    """A text-to-video pipeline from a folder, or the name of a model that is already on this computer.

    ``device`` is gpu (which falls back to the processor, as in the original), gpu:1, cuda, cuda:1 or cpu.
    Raises ``OptionError`` for another task, ``WeightsError`` for anything wrong with the folder.
    """
    if task not in (None, TASK):
        raise OptionError(f"task {task!r}: this package has {TASK!r}")
    where = pick_device("auto" if device == "gpu" else device.replace("gpu", "cuda"))
    # in the original the networks compute in float16 on a GPU; on a processor nothing but float32 comes near
    dtype = torch.float32 if where.type == "cpu" else pick_dtype("auto", where)
    components = load_components(model or DEFAULT_MODEL, device=where, dtype=dtype, variant=variant)
    return TextToVideoSynthesis(TextToVideoPipeline(components))


class TextToVideoSynthesis:
    """What ``pipeline`` gives back; call it."""

    def __init__(self, inner: TextToVideoPipeline) -> None:
        self._inner = inner

    def __call__(
        self,
        input: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],  # noqa: A002 - the original's name
        *,
        output_video: str | Path | None = None,
        **options: Any,
    ) -> dict[str, str] | list[dict[str, str]]:
        """Make a clip and write it; ``{"output_video": path}``, one for each item of a list.

        ``input`` is a text, or a dictionary with ``text`` and any of ``negative_prompt``, ``seed``, ``steps``,
        ``frames``, ``fps``, ``height``, ``width`` (one of the two is enough; ``out_height`` and ``out_width``
        are the same), ``guidance``, ``sampler`` and the other fields of a request; they may be given as
        keywords too. The path is always given back: that of a temporary file if ``output_video`` is left out.
        An existing file is replaced. With a list, ``output_video`` gets a number before its extension.
        """
        if isinstance(input, str | Mapping):
            return self._one(input, output_video, options)
        names = [_numbered(output_video, index) for index in range(len(input))]
        return [self._one(item, name, options) for item, name in zip(input, names, strict=True)]

    def _one(
        self, item: str | Mapping[str, Any], output: str | Path | None, options: Mapping[str, Any]
    ) -> dict[str, str]:
        given = {"text": item} if isinstance(item, str) else dict(item)
        fields = _ours({**options, **given})
        video = self._make(fields)
        path = video.save(_temporary() if output is None else output, overwrite=True)
        return {OutputKeys.OUTPUT_VIDEO: str(path if output is None else output)}

    def _make(self, fields: dict[str, Any]) -> Video:
        request = {**self._defaults(), **fields}
        if fields.get("seed") is not None:
            return self._inner(**request)
        video = self._inner(**request, noise=self._global_noise(request))
        recipe = dict(video.recipe)
        request_made = recipe.get("request")
        if isinstance(request_made, dict):  # no seed of ours makes the global generator's noise again
            recipe["request"] = {name: value for name, value in request_made.items() if name != "seed"}
        return Video(frames=video.frames, fps=video.fps, recipe=recipe)

    def _global_noise(self, request: dict[str, Any]) -> Tensor:
        """One draw of float32 on the CPU from torch's global generator, as the original makes it."""
        made = resolve(text_to_video(**request), self._inner.spec)
        factor = self._inner.components.vae.config.factor
        return torch.randn(1, LATENT_CHANNELS, made.frames, made.height // factor, made.width // factor)

    def _defaults(self) -> dict[str, Any]:
        """What the original hard-codes; the embedded model keeps what it was made for."""
        spec = self._inner.spec
        if spec.embedded:
            return {"unconditional": True}
        return {
            "steps": STEPS,
            "guidance": GUIDANCE,
            "fps": FPS,
            "sampler": "ddim",
            "spacing": "modelscope_strict",
            "negative_prompt": "",
            "unconditional": True,
        }


def _ours(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Foreign spellings as ours; another sampler than the original's loop loses that loop's spacing too."""
    found = {_SPELLINGS.get(name, name): value for name, value in fields.items() if value is not None}
    if "prompt" not in found:
        raise OptionError("the input has no 'text': pass {'text': 'what the clip shows'}")
    if found.get("sampler", "ddim") != "ddim":
        found.setdefault("spacing", None)
    return found


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="kinescribe-")) / "output.mp4"


def _numbered(output: str | Path | None, index: int) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    return path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
