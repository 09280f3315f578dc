"""The task text-to-video-synthesis: 50 steps of the original's own DDIM loop, guidance 9, 8 frames a second."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.compat.modelscope.call import Door, without_seed
from kinescribe.errors import OptionError
from kinescribe.media.video import Video
from kinescribe.options import text_to_video
from kinescribe.pipelines.denoise import LATENT_CHANNELS
from kinescribe.pipelines.settings import resolve
from kinescribe.pipelines.text_to_video import TextToVideoPipeline

STEPS, GUIDANCE, FPS = 50, 9.0, 8.0


class TextToVideoSynthesis(Door):
    """A text, or a dictionary with ``text``, to a clip.

    The path is always given back: that of a temporary file if ``output_video`` is left out.
    """

    def __init__(self, inner: TextToVideoPipeline) -> None:
        self._inner = inner

    def _fields(self, item: Any) -> dict[str, Any]:
        return dict(item) if isinstance(item, Mapping) else {"text": item}

    def _unnamed(self, video: Video) -> str:
        return str(video.save(Path(tempfile.mkdtemp(prefix="kinescribe-")) / "output.mp4"))

    def _make(self, fields: dict[str, Any]) -> Video:
        if "prompt" not in fields:
            raise OptionError("the input has no 'text': pass {'text': 'what the clip shows'}")
        request = {**self._defaults(), **fields}
        if fields.get("seed") is not None:
            return self._inner(**request)
        return without_seed(self._inner(**request, noise=self._global_noise(request)))

    def _global_noise(self, request: dict[str, Any]) -> Tensor:
        """One draw of float32 on the CPU from torch's global generator, as the original makes it."""
        made = resolve(text_to_video(**request), self._inner.spec)
        factor = self._inner.components.vae.config.factor
        return torch.randn(1, LATENT_CHANNELS, made.frames, made.height // factor, made.width // factor)

    def _defaults(self) -> dict[str, Any]:
        """What the original hard-codes; the embedded model keeps what it was made for."""
        if self._inner.spec.embedded:
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
