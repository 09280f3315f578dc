"""Image to video: one picture and, where the model reads text, a prompt in, one clip out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from kinescribe.catalog import PictureInput
from kinescribe.components import Components
from kinescribe.diffusion.noise import Noise
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.media.images import read_image
from kinescribe.media.recipe import SourceInput
from kinescribe.media.video import Video
from kinescribe.models.conditions import Conditioning
from kinescribe.options import ImageToVideo, image_to_video
from kinescribe.perf.presets import SPEEDS
from kinescribe.pipelines.checks import (
    recipe_of,
    refuse_options_beside,
    require_kind,
    say_if_long,
    say_if_unguided,
)
from kinescribe.pipelines.denoise import LATENT_CHANNELS, Conditions, Step, Walk, branches, denoise, outcome
from kinescribe.pipelines.draws import GivenNoise, as_given
from kinescribe.pipelines.encode import embed_picture, encode_picture, shaped
from kinescribe.pipelines.life import warn_of_stillness
from kinescribe.pipelines.loras import Loras
from kinescribe.pipelines.planning import prepare, work_of
from kinescribe.pipelines.settings import PictureSettings, resolve_picture
from kinescribe.pipelines.stages import at_work, decode, encode_text, warn_of_flatness

Image = UInt8[np.ndarray, "h w 3"]


class ImageToVideoPipeline:
    """A loaded image-to-video model. ``components`` holds the networks, ``spec`` what the model was made for.

    ``strict`` crops pictures as the references do, one pixel short for two sizes of five (``media.crop``).
    """

    def __init__(self, components: Components, *, strict: bool = False) -> None:
        require_kind(components.spec, "image-to-video")
        self.components = components
        self.spec = components.spec
        self.strict = strict
        loras = Loras(components)
        self.load_lora, self.lora_scales, self.unload_lora = loras.load, loras.set_scales, loras.unload

    def __call__(self, image: Any, prompt: str | ImageToVideo = "", **options: Any) -> Video:
        """Make a clip of ``image`` (a path, a PIL image or an array, see ``media.images``).

        ``prompt`` is text, for the models that read one, or a whole request. Options are the fields of
        ``ImageToVideo`` (frames, width, height, fit, fps, condition_fps, steps, guidance, seed ...) and ``noise``:
        initial latents ``(1, 4, f, h/8, w/8)`` or a ``GivenNoise``. Raises the errors of ``kinescribe.errors``.
        """
        return outcome(self.stream(image, prompt, **options))

    def stream(
        self,
        image: Any,
        prompt: str | ImageToVideo = "",
        *,
        noise: Tensor | GivenNoise | None = None,
        **options: Any,
    ) -> Iterator[Step | Video]:
        """The same as a generator: a ``Step`` after each step, last the ``Video``.

        Stopping the iteration cancels the work. Picture and options are checked before the first item is asked for.
        """
        if isinstance(prompt, ImageToVideo):
            refuse_options_beside(options)
            request = prompt
        else:
            request = image_to_video(prompt=prompt, **options)
        job = resolve_picture(request, self.spec)
        given = as_given(noise, self._latent_shape(job), pictures=1)
        making, schedule = job.making, Schedule(self.components.schedule)
        path = plan(making.sampler, schedule, making.steps, making.spacing)  # type: ignore[arg-type]
        picture = read_image(image)
        say_if_unguided(making, self.spec, asked_negative=bool(request.negative_prompt))
        say_if_long(making.frames, self.spec)
        prepare(self.components, [work_of(job, self.spec)])
        return self._run(job, picture, path, given, SourceInput.of(_file_name(image), picture[None]))

    @property
    def _input(self) -> PictureInput:
        assert self.spec.picture is not None
        return self.spec.picture

    def _latent_shape(self, job: PictureSettings) -> tuple[int, int, int, int]:
        factor, making = self.components.vae.config.factor, job.making
        return LATENT_CHANNELS, making.frames, making.height // factor, making.width // factor

    def _run(
        self,
        job: PictureSettings,
        picture: Image,
        path: Trajectory,
        given: GivenNoise,
        source: SourceInput,
    ) -> Iterator[Step | Video]:
        making, device = job.making, self.components.device
        with torch.inference_mode():
            draws = Noise(
                [making.seed], self._latent_shape(job), offset=self._input.offset_noise, device=device
            )
            with at_work(self.components, "reading the picture"):
                conditions = self._conditions(job, picture, draws, given)
            x = draws.initial() if given.initial is None else given.initial.to(device, torch.float32)
            walk = Walk(
                path=path,
                sampler=making.sampler,
                noise=draws.step,
                guidance=making.guidance,
                rescale=making.guidance_rescale,
                eta=making.eta,
                speed=SPEEDS[making.preset],
            )
            latents = x
            for step in denoise(self.components, path.start * x, conditions, walk):
                latents = step.latents
                yield step
            with at_work(self.components, "decoding"):
                frames = decode(self.components, latents)[0]
        warn_of_flatness(frames)
        seen = shaped(picture, making.width, making.height, job.fit)
        notes = warn_of_stillness(frames, seen if self._input.first_frame else None)
        recipe = recipe_of(self.components, job.request(), source=source)
        yield Video(frames=frames, fps=making.fps, recipe=recipe, notes=notes)

    def _conditions(
        self, job: PictureSettings, picture: Image, draws: Noise, given: GivenNoise
    ) -> Conditions:
        """What the UNet is told: frame rate, picture and text; the negative branch is shown no picture."""
        making, dtype = job.making, self.components.dtype
        side = self._input.crop or making.width
        embedding = embed_picture(self.components, picture, side, job.fit, strict=self.strict).to(dtype)
        latents = self._picture_latents(job, picture, draws, given) if self._input.first_frame else None
        positive = self._told(job, making.prompt, embedding, latents)
        if making.guidance <= 1:
            return branches(positive, None)
        return branches(
            positive, self._told(job, making.negative_prompt, torch.zeros_like(embedding), latents)
        )

    def _told(
        self, job: PictureSettings, prompt: str, embedding: Tensor, latents: Tensor | None
    ) -> Conditioning:
        conditions, dtype = self.components.conditions, self.components.dtype
        assert conditions is not None
        text = encode_text(self.components, [prompt]).to(dtype) if self._input.takes_text else None
        fps = torch.tensor([job.condition_fps], device=self.components.device)
        told: Conditioning = conditions(
            fps=fps, image=embedding, text=text, latents=latents, frames=job.making.frames
        )
        return told

    def _picture_latents(
        self, job: PictureSettings, picture: Image, draws: Noise, given: GivenNoise
    ) -> Tensor:
        making = job.making
        noise = given.posterior
        if noise is None and self._input.sampled_latents:
            noise = draws.posterior(1)[0]
        if noise is not None:
            noise = noise.to(self.components.device)
        latents = encode_picture(
            self.components, picture, (making.width, making.height), job.fit, noise, strict=self.strict
        )
        return latents.to(self.components.dtype)


def _file_name(image: object) -> str:
    return Path(image).name if isinstance(image, str | Path) else ""
