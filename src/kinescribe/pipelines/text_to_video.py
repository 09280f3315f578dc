"""Text to video: one request in, one clip out, with a generator of steps underneath."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

import kinescribe
from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch, denoiser
from kinescribe.diffusion.noise import Noise, seeds_from
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import Schedule
from kinescribe.errors import OptionError
from kinescribe.media.recipe import Recipe
from kinescribe.media.video import Video
from kinescribe.models.conditions import Conditioning, join
from kinescribe.options import TextToVideo, text_to_video
from kinescribe.pipelines.estimate import slow_processor_note
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.settings import Settings, resolve
from kinescribe.pipelines.stages import (
    Replay,
    decode,
    encode_text,
    in_parts,
    require_finite,
    say,
    warn_of_flatness,
)

BATCH = 4
"""Clips made together at most; a longer list is split, which changes no frame."""
LATENT_CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class Step:
    """After step ``index`` of ``total`` (from 1): the latents as they stand and the present clean estimate."""

    index: int
    total: int
    t: float
    latents: Float[Tensor, "b c f h w"]
    clean: Float[Tensor, "b c f h w"]


class TextToVideoPipeline:
    """A loaded model. ``components`` holds the networks, ``spec`` what the model was made for."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self.spec = components.spec

    @overload
    def __call__(self, prompt: str | TextToVideo, **options: Any) -> Video: ...
    @overload
    def __call__(self, prompt: Sequence[str], **options: Any) -> list[Video]: ...
    def __call__(self, prompt: str | TextToVideo | Sequence[str], **options: Any) -> Video | list[Video]:
        """Make a clip of ``prompt`` (text, or a whole request), or one of each of several texts.

        Options are the fields of ``TextToVideo`` (frames, width, height, fps, steps, guidance,
        negative_prompt, sampler, seed ...) and ``noise``: initial latents ``(b, 4, f, h/8, w/8)`` instead of
        those the seed gives. Clip i of a list uses ``seed + i``. Raises the errors of ``kinescribe.errors``.
        """
        for item in self.stream(prompt, **options):
            if not isinstance(item, Step):
                return item
        raise OptionError("the list of prompts is empty: give at least one")

    def stream(
        self, prompt: str | TextToVideo | Sequence[str], *, noise: Tensor | None = None, **options: Any
    ) -> Iterator[Step | Video | list[Video]]:
        """The same as a generator: a ``Step`` after each step, last the ``Video`` (or the list of them).

        Stopping the iteration cancels the work. Options are checked before the first item is asked for.
        """
        alone = isinstance(prompt, str | TextToVideo)
        prompts = [prompt] if isinstance(prompt, str | TextToVideo) else _texts(prompt)
        jobs = [self._settings(text, options) for text in prompts]
        if jobs:  # one draw of a random seed for the whole list, then seed + i
            seeds = seeds_from(jobs[0].seed, len(jobs))
            jobs = [replace(job, seed=seed) for job, seed in zip(jobs, seeds, strict=True)]
            self._check_noise(noise, jobs)
            if jobs[0].frames > self.spec.trained_frames:
                say(
                    f"{jobs[0].frames} frames in one pass: {self.spec.name} was trained on "
                    f"{self.spec.trained_frames}, longer clips lose shape"
                )
            slow = slow_processor_note(self.components, jobs[0], len(jobs))
            if slow:
                say(slow)
        return self._run(jobs, noise, alone=alone)

    def _settings(self, prompt: str | TextToVideo, options: dict[str, Any]) -> Settings:
        if isinstance(prompt, TextToVideo):
            if options:
                raise OptionError(f"{next(iter(options))} beside a whole request: put it into the request")
            request = prompt
        else:
            request = text_to_video(prompt=prompt, **options)
        job = resolve(request, self.spec)
        if job.guidance <= 1 and (request.negative_prompt or self.spec.defaults.guidance > 1):
            lost = ": the negative prompt has no effect" if request.negative_prompt else ""
            say(f"guidance={job.guidance:g} turns guidance off{lost}; above 1 the prompt counts for more")
        return job

    def _latent_shape(self, job: Settings) -> tuple[int, int, int, int]:
        factor = self.components.vae.config.factor
        return LATENT_CHANNELS, job.frames, job.height // factor, job.width // factor

    def _check_noise(self, noise: Tensor | None, jobs: list[Settings]) -> None:
        if noise is None:
            return
        if not isinstance(noise, Tensor):
            raise TypeError(f"noise must be a torch tensor, not {type(noise).__name__}: use torch.as_tensor")
        expected = (len(jobs), *self._latent_shape(jobs[0]))
        if tuple(noise.shape) != expected:
            raise OptionError(f"noise has shape {tuple(noise.shape)}: this request needs {expected}")
        if not (noise.is_floating_point() and bool(noise.isfinite().all())):
            raise OptionError(f"noise ({noise.dtype}) must be floating-point numbers, all of them finite")

    def _run(
        self, jobs: list[Settings], noise: Tensor | None, *, alone: bool
    ) -> Iterator[Step | Video | list[Video]]:
        videos: list[Video] = []
        with torch.inference_mode():
            for start in range(0, len(jobs), BATCH):
                batch = jobs[start : start + BATCH]
                given = None if noise is None else noise[start : start + BATCH]
                latents: Tensor | None = None
                for step in self._denoise(batch, given):
                    latents = step.latents
                    yield replace(
                        step,
                        index=start // BATCH * step.total + step.index,
                        total=step.total * -(-len(jobs) // BATCH),
                    )
                if latents is not None:
                    videos += self._finish(batch, latents)
        if videos:
            yield videos[0] if alone else videos

    def _denoise(self, jobs: list[Settings], given: Tensor | None) -> Iterator[Step]:
        """All steps of one batch; its jobs differ in prompt and seed only."""
        job, components = jobs[0], self.components
        device, unet = components.device, Replay(components.unet)
        schedule = Schedule(components.schedule)
        path = plan(job.sampler, schedule, job.steps, job.spacing)  # type: ignore[arg-type]
        draws = Noise([j.seed for j in jobs], self._latent_shape(job), device=device)
        x = draws.initial()
        if given is not None:
            x = given.to(x)
        with stage("reading the prompt"):
            conditions = self._conditions(jobs)

        def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
            times = torch.full((len(x),), t, device=device)
            return unet(x.to(components.dtype), times, conditions[branch])

        denoise = denoiser(
            in_parts(predict), components.schedule.prediction,
            guidance=job.guidance, rescale=job.guidance_rescale,
        )  # fmt: skip
        steps = sample(job.sampler, denoise, path.start * x, path, noise=draws.step, eta=job.eta)
        with stage("denoising"):
            for index, (t, (latents, clean)) in enumerate(zip(path.times, steps, strict=True), 1):
                require_finite(latents, step=index, total=len(path), unet=components.unet, again=unet)
                yield Step(index=index, total=len(path), t=t, latents=latents, clean=clean)

    def _conditions(self, jobs: list[Settings]) -> dict[Branch, Conditioning]:
        """The prompts' tokens and, if guidance asks for them, the negative prompts' and both in one batch."""
        dtype = self.components.dtype
        positive = Conditioning(tokens=encode_text(self.components, [j.prompt for j in jobs]).to(dtype))
        if jobs[0].guidance <= 1:
            return {"positive": positive}
        negative = Conditioning(
            tokens=encode_text(self.components, [j.negative_prompt for j in jobs]).to(dtype)
        )
        return {"positive": positive, "negative": negative, "both": join(negative, positive)}

    def _finish(self, jobs: list[Settings], latents: Tensor) -> list[Video]:
        with stage("decoding"):
            clips = decode(self.components, latents)
        for frames in clips:
            warn_of_flatness(frames)
        return [
            Video(frames=frames, fps=job.fps, recipe=self._recipe(job))
            for job, frames in zip(jobs, clips, strict=True)
        ]

    def _recipe(self, job: Settings) -> dict[str, object]:
        return Recipe(
            request=job.request(),
            model=self.spec.name,
            model_hash=self.components.model_hash,
            kinescribe=kinescribe.__version__,
            torch=str(torch.__version__),
        ).as_dict()


def _texts(prompts: object) -> list[str]:
    """A list of prompts as given; a ``TypeError`` for what would be taken apart into something else."""
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes | bytearray):
        raise TypeError(f"prompt must be text or a list of texts, not {type(prompts).__name__}")
    return list(prompts)
