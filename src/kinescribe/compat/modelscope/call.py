"""One call: inputs under the original's names, a file or bytes out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinescribe.media.video import Video

# The originals' spellings, of which their own tests pass two that they never read, and ours.
_SPELLINGS = {
    "text": "prompt",
    "max_frames": "frames",
    "num_frames": "frames",
    "out_height": "height",
    "out_width": "width",
    "num_inference_steps": "steps",
    "ddim_steps": "steps",
    "ddim_timesteps": "steps",
    "guide_scale": "guidance",
    "guidance_scale": "guidance",
    "guide_rescale": "guidance_rescale",
    "target_fps": "condition_fps",
}

Answer = dict[str, str | bytes]


class OutputKeys:
    """Keys of a result."""

    OUTPUT_VIDEO = "output_video"


class Door(ABC):
    """What ``pipeline`` gives back; call it."""

    def __call__(
        self,
        input: Any,  # noqa: A002 - the original's name
        *,
        output_video: str | Path | None = None,
        **options: Any,
    ) -> Answer | list[Answer]:
        """Make a clip and write it; ``{"output_video": path}``, one for each item of a list.

        ``input`` is what the task takes, alone or in a dictionary with any of ``negative_prompt``, ``seed``,
        ``steps``, ``fps``, ``height``, ``width`` (one of the two is enough; ``out_height`` and ``out_width`` are the
        same), ``guidance``, ``sampler`` and the other fields of the task's request; they may be given as keywords
        too. An existing file is replaced. With a list, ``output_video`` gets a number before its extension.
        """
        if not isinstance(input, list | tuple):
            return self._one(input, output_video, options)
        names = [_numbered(output_video, index) for index in range(len(input))]
        return [self._one(item, name, options) for item, name in zip(input, names, strict=True)]

    @abstractmethod
    def _fields(self, item: Any) -> dict[str, Any]:
        """What an item says, by name."""

    @abstractmethod
    def _make(self, fields: dict[str, Any]) -> Video:
        """The clip that fields under our names ask for."""

    def _unnamed(self, video: Video) -> str | bytes:
        """What is given back where no file was named: the bytes of an mp4."""
        return video.encoded(".mp4")

    def _one(self, item: Any, output: str | Path | None, options: Mapping[str, Any]) -> Answer:
        video = self._make(ours({**options, **self._fields(item)}))
        if output is None:
            return {OutputKeys.OUTPUT_VIDEO: self._unnamed(video)}
        video.save(output, overwrite=True)
        return {OutputKeys.OUTPUT_VIDEO: str(output)}


def ours(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Foreign spellings as ours; another sampler than the original's loop loses that loop's spacing too."""
    found = {_SPELLINGS.get(name, name): value for name, value in fields.items() if value is not None}
    if found.get("sampler", "ddim") != "ddim":
        found.setdefault("spacing", None)
    return found


def without_seed(video: Video) -> Video:
    """The clip with no seed in its recipe: no seed of ours makes the global generator's noise again."""
    request = video.recipe.get("request")
    if not isinstance(request, dict):
        return video
    kept = {name: value for name, value in request.items() if name != "seed"}
    return replace(video, recipe={**video.recipe, "request": kept})


def _numbered(output: str | Path | None, index: int) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    return path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
