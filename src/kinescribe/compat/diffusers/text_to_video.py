"""``TextToVideoSDPipeline``: a prompt in, a clip out."""

from typing import Any

import torch

from kinescribe.catalog import ModelSpec
from kinescribe.compat.diffusers.call import (
    Call,
    TextToVideoSDPipelineOutput,
    given_or,
    require_count,
    require_size,
)
from kinescribe.compat.diffusers.pipeline import DiffusionPipeline

FRAMES, STEPS, GUIDANCE = 16, 50, 9.0
_OWN = ("height", "width", "num_frames")


class TextToVideoSDPipeline(DiffusionPipeline):
    """Text to video; build it with ``from_pretrained``, call it, read ``.frames``."""

    made_for = "text-to-video models"

    @staticmethod
    def fits(spec: ModelSpec) -> bool:
        """Whether this pipeline runs a model."""
        return spec.kind == "text-to-video"

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: int | float | None = None,
        **options: Any,
    ) -> TextToVideoSDPipelineOutput | tuple[Any]:
        """Make one clip of each prompt; ``options`` are the fields of ``Call``, under diffusers' names.

        Left out, sizes are those of the folder, frames 16, steps 50, guidance 9 (the embedded model: its
        own). Raises ``OptionError``, a ``ValueError``, for whatever cannot be done.
        """
        spec, side = self._components.spec, self._side
        own = spec.embedded
        defaults = {
            "num_inference_steps": spec.defaults.steps if own else STEPS,
            "guidance_scale": spec.defaults.guidance if own else GUIDANCE,
            "output_type": "np",
        }
        given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, **options}
        call = Call.of(defaults, {"prompt": prompt, **given}, own=_OWN)
        height, width = given_or(height, side[0]), given_or(width, side[1])
        frames = given_or(num_frames, spec.defaults.frames if own else FRAMES)
        require_size(height, width)
        require_count(num_frames=frames)
        self._prepare(call)
        conditions = self._tokens(call)
        clips = len(conditions["positive"].tokens)
        shape = self._latent_shape(clips, frames, height, width)
        draws = self._draws(call, shape)
        path = self.scheduler.plan(call.num_inference_steps)
        x = self._start(call, draws, shape) * path.start
        return self._result(call, self._denoised(call, path, x, draws, conditions))
