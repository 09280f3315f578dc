"""``VideoToVideoSDPipeline``: a clip made anew by a text-to-video model (SDEdit; Meng et al., 2108.01073).

This is what zeroscope XL is used with. It is not ModelScope's second stage, which diffusers does not have.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinescribe.catalog import ModelSpec
from kinescribe.compat.diffusers.call import Call, Draws, TextToVideoSDPipelineOutput, require_size
from kinescribe.compat.diffusers.pictures import clip_of
from kinescribe.compat.diffusers.pipeline import DiffusionPipeline
from kinescribe.diffusion.sdedit import noised, tail
from kinescribe.errors import OptionError
from kinescribe.pipelines.encode import encode
from kinescribe.pipelines.memory import stage

STRENGTH, STEPS, GUIDANCE = 0.6, 50, 15.0
_OWN = ("video", "strength")


class VideoToVideoSDPipeline(DiffusionPipeline):
    """A clip and a prompt to a clip of the same size and length; read ``.frames``."""

    made_for = "text-to-video models (kinescribe.load runs the others that make clips anew)"

    @staticmethod
    def fits(spec: ModelSpec) -> bool:
        """Whether this pipeline runs a model."""
        return spec.kind == "text-to-video"

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        video: Any = None,
        strength: int | float = STRENGTH,
        num_inference_steps: int | None = None,
        guidance_scale: int | float | None = None,
        negative_prompt: str | list[str] | None = None,
        **options: Any,
    ) -> TextToVideoSDPipelineOutput | tuple[Any]:
        """Make ``video`` anew; ``options`` are the fields of ``Call``, under diffusers' names.

        ``video`` is a list of PIL images or arrays, an array ``(f, h, w, 3)`` or a tensor ``(f, 3, h, w)``, whose
        sides are multiples of 8. The last ``strength`` of the steps are taken, rounded down; there are 50, and
        guidance is 15, if they are left out. Raises ``OptionError``, a ``ValueError``, for whatever cannot be done.
        """
        defaults = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
        given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, **options}
        texts = {"prompt": prompt, "negative_prompt": negative_prompt}
        call = Call.of(defaults, {**texts, **given}, own=_OWN)
        if video is None:
            raise OptionError("video is missing: give a list of PIL images, or an array (f, h, w, 3)")
        if call.latents is not None:
            raise OptionError("latents: the clip itself is where this begins; leave them out")
        path = tail(self.scheduler.plan(call.num_inference_steps), float(strength))
        pixels = clip_of(video)
        count, _, height, width = pixels.shape
        require_size(height, width)
        self._prepare(call)
        conditions = self._tokens(call)
        if len(conditions["positive"].tokens) != 1:
            raise OptionError("several prompts for one clip: give one a call")
        draws = self._draws(call, self._latent_shape(1, count, height, width))
        latents = self._encoded(pixels, draws)
        x = noised(path, latents, draws.around())
        return self._result(call, self._denoised(call, path, x, draws, conditions))

    def _encoded(self, pixels: Float[Tensor, "f 3 h w"], draws: Draws) -> Float[Tensor, "1 c f y x"]:
        """Latents of the clip, drawn from what the autoencoder gives; float32."""
        vae, (count, _, height, width) = self._components.vae, pixels.shape
        with stage("encoding"), self._placed(vae):
            latents = encode(vae, lambda part: pixels[part], count, (width, height), draws.pictures(count))
        return rearrange(latents, "f c h w -> 1 c f h w")
