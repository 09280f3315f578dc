"""Video to video: a clip in, the same clip made anew; all of its frames, in overlapping windows.

A model that refines clips (ModelScope's second stage, VGen's SR600) walks its own path below its noise level; a
text-to-video model walks the last part of any sampler's path (SDEdit; Meng et al., 2108.01073).

Memory of the second stage for 32 frames of 1280 x 720 in half precision, counted, not measured: one activation of its
finest level, 32 x 90 x 160 x 320 numbers, is 0.275 GiB. The UNet's most is in the decoder's last level, 3.6 GiB for one
branch of guidance and 6.1 for both (14.7 without slices); on GPUs of compute capability 9.0, whose kernels spare
copies, 2.9, 5.4 and 7.0. With the weights of the UNet (2.63), of the text tower (0.63) and of the autoencoder (0.16)
and 0.5 for the device itself that is 10 GiB, or 7 with the branches one after the other. The autoencoder, one frame at
a time, needs 1.3 GiB. Pixels wait as 8 bits in main memory. More frames need no more, but for their latents: the UNet
sees one window at a time.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from kinescribe.components import Components
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import Schedule
from kinescribe.diffusion.sdedit import inversion, noised, second_stage, tail
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.errors import OptionError
from kinescribe.media.fit import fit_note
from kinescribe.media.read import as_video
from kinescribe.media.recipe import SourceInput
from kinescribe.media.video import Video
from kinescribe.models.conditions import Conditioning
from kinescribe.options import VideoToVideo, video_to_video
from kinescribe.perf.presets import SPEEDS
from kinescribe.pipelines.checks import (
    recipe_before,
    recipe_of,
    refuse_options_beside,
    require_kind,
    say_if_long,
    say_if_strong,
    say_if_unguided,
)
from kinescribe.pipelines.denoise import (
    LATENT_CHANNELS,
    Conditions,
    Step,
    Walk,
    branches,
    denoise,
    outcome,
    windows_of,
)
from kinescribe.pipelines.draws import FrameDraws, GivenNoise, as_given
from kinescribe.pipelines.encode import encode, frame_pixels, middle_of, mirrored
from kinescribe.pipelines.loras import Loras
from kinescribe.pipelines.planning import computed_size, prepare, work_of
from kinescribe.pipelines.settings import ClipSettings, resolve_clip
from kinescribe.pipelines.stages import at_work, decode, encode_text, warn_of_flatness


class VideoToVideoPipeline:
    """A loaded model that makes clips anew: one for that, or one for text-to-video.

    ``strict`` resizes with ``fit="stretch"`` as the second stage's reference does (``ops.resize``).
    """

    def __init__(self, components: Components, *, strict: bool = False) -> None:
        require_kind(components.spec, "video-to-video")
        self.components = components
        self.spec = components.spec
        self.strict = strict
        loras = Loras(components)
        self.load_lora, self.lora_scales, self.unload_lora = loras.load, loras.set_scales, loras.unload

    def __call__(self, video: Any, prompt: str | VideoToVideo = "", **options: Any) -> Video:
        """Make ``video`` (a path, a ``Video``, an array or a sequence of frames) anew, every frame of it.

        ``prompt`` is text, or a whole request. Options are the fields of ``VideoToVideo`` (strength, width,
        height, fit, steps, guidance, window, overlap, seed ...) and ``noise``: the unit noise of the start,
        ``(1, 4, f, h/8, w/8)`` at the size that the model computes in, or a ``GivenNoise``. Raises the errors of
        ``kinescribe.errors``.
        """
        return outcome(self.stream(video, prompt, **options))

    def stream(
        self,
        video: Any,
        prompt: str | VideoToVideo = "",
        *,
        noise: Tensor | GivenNoise | None = None,
        **options: Any,
    ) -> Iterator[Step | Video]:
        """The same as a generator: a ``Step`` after each step, last the ``Video``.

        Stopping the iteration cancels the work. Clip and options are checked before the first item is asked for.
        """
        if isinstance(prompt, VideoToVideo):
            refuse_options_beside(options)
            request = prompt
        else:
            request = video_to_video(prompt=prompt, **options)
        clip = as_video(video)
        job = resolve_clip(request, self.spec, frames=len(clip.frames), size=clip.size, fps=float(clip.fps))
        given = as_given(noise, self._latent_shape(job), pictures=len(clip.frames))
        path = self._path(job)
        say_if_unguided(job.making, self.spec, asked_negative=bool(request.negative_prompt))
        say_if_strong(job.strength, self.spec)
        say_if_long(min(job.window, job.making.frames), self.spec)
        prepare(self.components, [work_of(job, self.spec)])
        return self._run(job, clip, path, given, SourceInput.of(clip.name, clip.frames, float(clip.fps)))

    def _path(self, job: ClipSettings) -> Trajectory:
        making, schedule = job.making, Schedule(self.components.schedule)
        if self.spec.refinement is None:
            return tail(plan(making.sampler, schedule, making.steps, making.spacing), job.strength)  # type: ignore[arg-type]
        if making.spacing is not None:
            raise OptionError(f"spacing={making.spacing}: {self.spec.name} has its own steps; leave it out")
        consistent = self.spec.refinement.consistent_start
        return second_stage(
            making.sampler, schedule, making.steps, strength=job.strength, consistent_start=consistent
        )

    def _latent_shape(self, job: ClipSettings) -> tuple[int, int, int, int]:
        factor, (width, height) = self.components.vae.config.factor, computed_size(job.making, self.spec)
        return LATENT_CHANNELS, job.making.frames, height // factor, width // factor

    def _run(
        self, job: ClipSettings, clip: Video, path: Trajectory, given: GivenNoise, source: SourceInput
    ) -> Iterator[Step | Video]:
        making = job.making
        with torch.inference_mode():
            with at_work(self.components, "reading the prompt"):
                conditions = self._conditions(job)
            draws = FrameDraws(making.seed, self._latent_shape(job), given, device=self.components.device)
            with at_work(self.components, "encoding"):
                latents = self._encoded(job, clip, draws)
            for step in self._denoised(job, path, latents, conditions, draws):
                latents = step.latents
                yield step
            with at_work(self.components, "decoding"):
                frames = middle_of(decode(self.components, latents)[0], making.width, making.height)
        warn_of_flatness(frames)
        note = fit_note(clip.size, making.width, making.height, job.fit)
        recipe = recipe_of(self.components, job.request(), source=source, before=recipe_before(clip))
        yield Video(
            frames=frames, fps=making.fps, recipe=recipe, notes=(*clip.notes, note) if note else clip.notes
        )

    def _encoded(self, job: ClipSettings, clip: Video, draws: FrameDraws) -> Tensor:
        """Latents of all frames at the computed size, ``1 c f h w``."""
        making, size = job.making, computed_size(job.making, self.spec)

        def pixels(part: slice) -> Tensor:
            frames = frame_pixels(clip.frames[part], making.width, making.height, job.fit, strict=self.strict)
            return mirrored(frames, *size)

        sampled = self.spec.refinement is not None and self.spec.refinement.sampled_latents
        eps = draws.posterior(sampled=sampled)
        latents = encode(self.components.vae, pixels, making.frames, size, eps)
        return rearrange(latents, "f c h w -> 1 c f h w")

    def _denoised(
        self, job: ClipSettings, path: Trajectory, latents: Tensor, conditions: Conditions, draws: FrameDraws
    ) -> Iterator[Step]:
        making, refinement = job.making, self.spec.refinement
        windows = windows_of(making.frames, job.window, job.overlap)
        stage_name = "denoising" if len(windows) == 1 else f"denoising in {len(windows)} windows"
        walk = Walk(
            path=path,
            sampler=making.sampler,
            noise=draws.step,
            guidance=making.guidance,
            rescale=making.guidance_rescale,
            eta=making.eta,
            speed=SPEEDS[making.preset],
            windows=windows,
            stage=stage_name,
        )
        if refinement is None:
            yield from denoise(self.components, noised(path, latents, draws.initial()), conditions, walk)
            return
        if refinement.inversion is None:
            x = noised(path, latents, draws.initial())
        else:
            for step in self._inverted(job, latents, conditions, walk):
                latents = step.latents
                yield step
            x = path.start * latents
        schedule = Schedule(self.components.schedule)
        walk = replace(walk, noise=draws.brownian(path), trained_levels=schedule)
        yield from denoise(self.components, x, conditions, walk)

    def _inverted(
        self, job: ClipSettings, latents: Tensor, conditions: Conditions, walk: Walk
    ) -> Iterator[Step]:
        """The clip's way up to noise, along another diffusion and with the negative prompt alone."""
        assert self.spec.refinement is not None
        assert self.spec.refinement.inversion is not None
        config = replace(self.components.schedule, kind=self.spec.refinement.inversion)
        up = inversion(Schedule(config), job.making.steps, strength=job.strength)
        negative = conditions.get("negative")
        if negative is None:
            with at_work(self.components, "reading the prompt"):
                negative = self._tokens(job.making.negative_prompt, "")
        walk = replace(
            walk,
            path=up,
            sampler="ddim",
            guidance=1.0,
            eta=None,
            stage=walk.stage.replace("denoising", "inverting"),
        )
        return denoise(self.components, latents, branches(negative, None), walk)

    def _conditions(self, job: ClipSettings) -> Conditions:
        """The tokens of the prompt, with the model's own words behind it, and of the negative prompt."""
        making, refinement = job.making, self.spec.refinement
        appended = "" if refinement is None else refinement.positive_prompt
        positive = self._tokens(making.prompt, appended)
        if making.guidance <= 1:
            return branches(positive, None)
        return branches(positive, self._tokens(making.negative_prompt, ""))

    def _tokens(self, prompt: str, appended: str) -> Conditioning:
        tokens = encode_text(self.components, [prompt], appended=appended)
        return Conditioning(tokens=tokens.to(self.components.dtype))
