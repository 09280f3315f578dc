"""Text to video: one request in, one clip out, with a generator of steps underneath."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from kinescribe.components import Components
from kinescribe.diffusion.noise import Noise, seeds_from
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.errors import OptionError
from kinescribe.media.video import Video
from kinescribe.models.conditions import Conditioning
from kinescribe.options import TextToVideo, text_to_video
from kinescribe.perf.presets import SPEEDS
from kinescribe.pipelines.checks import (
    recipe_of,
    refuse_options_beside,
    require_kind,
    say_if_long,
    say_if_unguided,
)
from kinescribe.pipelines.denoise import LATENT_CHANNELS, Conditions, Step, Walk, branches, denoise
from kinescribe.pipelines.draws import require_noise
from kinescribe.pipelines.loras import Loras
from kinescribe.pipelines.planning import prepare, work_of
from kinescribe.pipelines.settings import Settings, resolve
from kinescribe.pipelines.stages import at_work, decode, encode_text, warn_of_flatness

BATCH = 4
"""Clips made together at most; a longer list is split, as is one that memory is short for, which changes no frame."""


class TextToVideoPipeline:
    """A loaded model. ``components`` holds the networks, ``spec`` what the model was made for."""

    def __init__(self, components: Components) -> None:
        require_kind(components.spec, "text-to-video")
        self.components = components
        self.spec = components.spec
        loras = Loras(components)
        self.load_lora, self.lora_scales, self.unload_lora = loras.load, loras.set_scales, loras.unload

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
            if noise is not None:
                require_noise(noise, (len(jobs), *self._latent_shape(jobs[0])))
            say_if_long(jobs[0].frames, self.spec)
            return self._run(jobs, noise, alone=alone, together=self._prepare(jobs))
        return iter(())

    def _prepare(self, jobs: list[Settings]) -> int:
        """Plan the memory of the jobs; how many are made together: fewer, down to one, rather than a lower rung."""
        most = min(len(jobs), BATCH)
        counts = [count for count in (most, most // 2, 1) if count]
        return prepare(self.components, [work_of(jobs[0], self.spec, clips=count) for count in counts]).clips

    def _settings(self, prompt: str | TextToVideo, options: dict[str, Any]) -> Settings:
        if isinstance(prompt, TextToVideo):
            refuse_options_beside(options)
            request = prompt
        else:
            request = text_to_video(prompt=prompt, **options)
        job = resolve(request, self.spec)
        say_if_unguided(job, self.spec, asked_negative=bool(request.negative_prompt))
        return job

    def _latent_shape(self, job: Settings) -> tuple[int, int, int, int]:
        factor = self.components.vae.config.factor
        return LATENT_CHANNELS, job.frames, job.height // factor, job.width // factor

    def _run(
        self, jobs: list[Settings], noise: Tensor | None, *, alone: bool, together: int
    ) -> Iterator[Step | Video | list[Video]]:
        videos: list[Video] = []
        with torch.inference_mode():
            for start in range(0, len(jobs), together):
                batch = jobs[start : start + together]
                given = None if noise is None else noise[start : start + together]
                latents: Tensor | None = None
                for step in self._denoise(batch, given):
                    latents = step.latents
                    yield replace(
                        step,
                        index=start // together * step.total + step.index,
                        total=step.total * -(-len(jobs) // together),
                    )
                if latents is not None:
                    videos += self._finish(batch, latents)
        if videos:
            yield videos[0] if alone else videos

    def _denoise(self, jobs: list[Settings], given: Tensor | None) -> Iterator[Step]:
        """All steps of one batch; its jobs differ in prompt and seed only."""
        job, device = jobs[0], self.components.device
        path = plan(job.sampler, Schedule(self.components.schedule), job.steps, job.spacing)  # type: ignore[arg-type]
        draws = Noise([j.seed for j in jobs], self._latent_shape(job), device=device)
        x = draws.initial()
        if given is not None:
            x = given.to(x)
        with at_work(self.components, "reading the prompt"):
            conditions = self._conditions(jobs)
        walk = Walk(
            path=path,
            sampler=job.sampler,
            noise=draws.step,
            guidance=job.guidance,
            rescale=job.guidance_rescale,
            eta=job.eta,
            speed=SPEEDS[job.preset],
        )
        yield from denoise(self.components, path.start * x, conditions, walk)

    def _conditions(self, jobs: list[Settings]) -> Conditions:
        """The prompts' tokens and, if guidance asks for them, the negative prompts'."""
        positive = self._tokens([job.prompt for job in jobs])
        if jobs[0].guidance <= 1:
            return branches(positive, None)
        return branches(positive, self._tokens([job.negative_prompt for job in jobs]))

    def _tokens(self, prompts: list[str]) -> Conditioning:
        return Conditioning(tokens=encode_text(self.components, prompts).to(self.components.dtype))

    def _finish(self, jobs: list[Settings], latents: Tensor) -> list[Video]:
        with at_work(self.components, "decoding"):
            clips = decode(self.components, latents)
        for frames in clips:
            warn_of_flatness(frames)
        return [
            Video(frames=frames, fps=job.fps, recipe=recipe_of(self.components, job.request()))
            for job, frames in zip(jobs, clips, strict=True)
        ]


def _texts(prompts: object) -> list[str]:
    """A list of prompts as given; a ``TypeError`` for what would be taken apart into something else."""
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes | bytearray):
        raise TypeError(f"prompt must be text or a list of texts, not {type(prompts).__name__}")
    return list(prompts)
