"""``I2VGenXLPipeline``: a picture and a prompt in, a clip out."""

from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinescribe.catalog import ModelSpec
from kinescribe.compat.diffusers.call import (
    Call,
    Draws,
    TextToVideoSDPipelineOutput,
    given_or,
    require_count,
    require_size,
)
from kinescribe.compat.diffusers.part import Part
from kinescribe.compat.diffusers.pictures import Image, pictures_of
from kinescribe.compat.diffusers.pipeline import DiffusionPipeline
from kinescribe.errors import OptionError
from kinescribe.models.conditions import Conditioning
from kinescribe.pipelines.denoise import Conditions, branches
from kinescribe.pipelines.encode import embed_picture, encode_picture
from kinescribe.pipelines.memory import stage

HEIGHT, WIDTH, FPS, FRAMES, STEPS, GUIDANCE = 704, 1280, 16, 16, 50, 9.0
LAYER = 1  # the last but one, which this model was trained on
_OWN = (
    "image", "height", "width", "target_fps", "num_frames", "num_videos_per_prompt", "decode_chunk_size",
)  # fmt: skip


class I2VGenXLPipeline(DiffusionPipeline):
    """Image to video; build it with ``from_pretrained``, call it, read ``.frames``.

    Pictures are cropped as diffusers crops them, which leaves two sizes of five one pixel short and a black line at
    the edge; ``kinescribe.load`` crops without. The picture's latents are drawn from what the autoencoder gives
    with torch's own random numbers, whatever ``generator`` says, as diffusers draws them: ``torch.manual_seed``
    before the call fixes them too.
    """

    made_for = "I2VGen-XL"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        assert self._components.vision is not None
        assert self._components.conditions is not None
        self._vision, self._told = self._components.vision, self._components.conditions
        side = self._vision.config.size
        self.image_encoder = Part(self._vision)
        self.feature_extractor = SimpleNamespace(crop_size={"height": side, "width": side})

    @staticmethod
    def fits(spec: ModelSpec) -> bool:
        """Whether this pipeline runs a model."""
        return spec.picture is not None and spec.picture.first_frame

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        height: int | None = HEIGHT,
        width: int | None = WIDTH,
        target_fps: int | None = FPS,
        num_frames: int | None = FRAMES,
        num_inference_steps: int | None = None,
        guidance_scale: int | float | None = None,
        negative_prompt: str | list[str] | None = None,
        eta: int | float | None = None,
        num_videos_per_prompt: int | None = 1,
        decode_chunk_size: int | None = 1,  # noqa: ARG002 - frames are always decoded a few at a time
        **options: Any,
    ) -> TextToVideoSDPipelineOutput | tuple[Any]:
        """Make one clip, or ``num_videos_per_prompt``, of each prompt with ``image``, or with one image of each.

        ``image`` is a PIL image, a path, an array ``(h, w, 3)`` or a tensor ``(3, h, w)`` from 0 to 1. ``target_fps``
        is what the model is told. ``options`` are the fields of ``Call``, under diffusers' names. Left out, a side is
        that of the folder if it is None and 1280 x 704 else, steps are 50 and guidance 9. Raises ``OptionError``, a
        ``ValueError``, for whatever cannot be done.
        """
        defaults = {
            "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "pil", "clip_skip": LAYER,
        }  # fmt: skip
        given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, **options}
        texts = {"prompt": prompt, "negative_prompt": negative_prompt, "eta": eta}
        call = Call.of(defaults, {**texts, **given}, own=_OWN)
        if image is None:
            raise OptionError("image is missing: give a PIL image, or the path of a picture")
        height, width = given_or(height, self._side[0]), given_or(width, self._side[1])
        frames, fps = given_or(num_frames, FRAMES), given_or(target_fps, FPS)
        copies = given_or(num_videos_per_prompt, 1)
        require_size(height, width)
        require_count(num_frames=frames, target_fps=fps, num_videos_per_prompt=copies)
        pictures = pictures_of(image)
        self._prepare(call)
        positive, negative = self._prompts(call, copies)
        shape = self._latent_shape(len(positive), frames, height, width)
        draws = self._draws(call, shape)
        embedding, latents = self._seen(pictures, (width, height), draws, clips=len(positive))
        conditions = self._conditions(positive, negative, embedding, latents, fps=fps, frames=frames)
        path = self.scheduler.plan(call.num_inference_steps)
        x = self._start(call, draws, shape) * path.start
        return self._result(call, self._denoised(call, path, x, draws, conditions))

    def _seen(
        self, pictures: list[Image], size: tuple[int, int], draws: Draws, *, clips: int
    ) -> tuple[Float[Tensor, "b 1 e"], Float[Tensor, "b c y x"]]:
        """Embedding and latents of the picture that belongs to each clip; one picture belongs to all."""
        if clips % len(pictures):
            raise OptionError(f"{len(pictures)} images for {clips} clips: give one, or one for each prompt")
        components, dtype = self._components, self._components.dtype
        noise = draws.pictures(len(pictures), anybodys=True)
        with stage("reading the picture"), self._placed(self._vision, components.vae):
            embeddings = [
                embed_picture(components, picture, size[0], "crop", strict=True) for picture in pictures
            ]
            latents = [
                encode_picture(components, picture, size, "crop", eps[None], strict=True)
                for picture, eps in zip(pictures, noise, strict=True)
            ]
        each = clips // len(pictures)
        told = (torch.cat(parts).to(dtype).repeat_interleave(each, 0) for parts in (embeddings, latents))
        return next(told), next(told)

    def _conditions(
        self,
        positive: Tensor,
        negative: Tensor | None,
        embedding: Tensor,
        latents: Tensor,
        *,
        fps: int,
        frames: int,
    ) -> Conditions:
        """What the UNet is told: frame rate, picture and text; the negative branch is shown no picture's meaning."""
        rates = torch.full((len(positive),), fps, device=embedding.device)

        def told(text: Tensor, image: Tensor) -> Conditioning:
            said: Conditioning = self._told(
                fps=rates, image=image, text=text.to(image), latents=latents, frames=frames
            )
            return said

        with stage("reading the picture"), self._placed(self._told):
            shown = told(positive, embedding)
            return branches(shown, None if negative is None else told(negative, torch.zeros_like(embedding)))
