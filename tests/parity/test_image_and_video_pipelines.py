"""The two pipelines from picture or clip to frames, through their public calls, against stored numbers."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import goldens
from kinescribe import ImageToVideoPipeline, Video, VideoToVideoPipeline
from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.pipelines.denoise import Step
from kinescribe.pipelines.draws import GivenNoise

FAMILY = "image_and_video_to_video"
GUIDED = 2e-3  # what a few guided steps make of rounding, as the stored numbers' own description says
SURFING = "A panda is surfing on the sea"

pytestmark = pytest.mark.filterwarnings("ignore::kinescribe.errors.KinescribeWarning")


@cache
def expected() -> dict[str, Tensor]:
    return goldens.expected(FAMILY)


@cache
def model(name: str, as_model: str | None = None) -> Components:
    return load_components(goldens.folder(f"{FAMILY}/{name}"), dtype=torch.float32, as_model=as_model)


def run(events: object) -> tuple[list[Tensor], Video]:
    """Latents after every step, and the clip."""
    *steps, video = events  # type: ignore[misc]
    assert isinstance(video, Video)
    assert all(isinstance(step, Step) for step in steps)
    return [step.latents for step in steps], video


def gap(latents: Tensor, key: str) -> float:
    return float((latents - expected()[key]).abs().max())


def levels(frames: np.ndarray, wanted: Tensor) -> float:
    return float(np.abs(frames.astype(np.float64) - wanted.numpy().astype(np.float64)).max())


def test_image_to_video_makes_the_references_frames() -> None:
    """Five steps at guidance 3 and the sizes are the folder's own; the picture is cropped a pixel short, as there."""
    picture = goldens.folder(f"{FAMILY}/i2v") / "test_a.png"
    pipe = ImageToVideoPipeline(model("i2v"), strict=True)
    latents, video = run(pipe.stream(picture, noise=expected()["i2v.noise"], spacing="modelscope_strict"))
    assert len(latents) == 5
    for i, x in enumerate(latents):
        assert gap(x, f"i2v.ddim.{i}.x") < 2e-5
    assert levels(video.frames, expected()["i2v.frames_u8"]) <= 1
    assert video.fps == 8


def test_image_to_video_without_strictness_sees_the_whole_crop() -> None:
    picture = goldens.folder(f"{FAMILY}/i2v") / "test_a.png"
    pipe = ImageToVideoPipeline(model("i2v"))
    latents, _ = run(pipe.stream(picture, noise=expected()["i2v.noise"], spacing="modelscope_strict"))
    assert 1e-4 < gap(latents[-1], "i2v.ddim.4.x") < 0.2  # another row of 448, not another picture


def test_i2vgen_xl_makes_the_frames_of_diffusers() -> None:
    e = expected()
    pipe = ImageToVideoPipeline(model("i2vgen-xl"), strict=True)
    latents, video = run(
        pipe.stream(
            goldens.folder(f"{FAMILY}/i2vgen-xl") / "test.png", "a red boat on the sea",
            negative_prompt="blurry, ugly", steps=4, frames=4, width=64, height=64,
            noise=GivenNoise(initial=e["xl.latents"], posterior=e["xl.posterior_eps"]),
        )
    )  # fmt: skip
    assert len(latents) == 4
    for i, x in enumerate(latents):
        assert gap(x, f"xl.ddim.{i}.x") < 2e-4
    assert levels(video.frames, e["xl.frames"] * 255) <= 1.01  # stored before it was cut to whole levels


@pytest.mark.parametrize(("key", "sampler", "steps"), [("fast", "dpmpp_2m_sde", 4), ("heun", "heun", 3)])
def test_video_to_video_ends_where_the_reference_ends(key: str, sampler: str, steps: int) -> None:
    e = expected()
    noise = GivenNoise(
        initial=e["v2v.noise"], posterior=e["v2v.vae.eps"], entropy=int(e["v2v.fast.brownian_entropy"])
    )
    pipe = VideoToVideoPipeline(model("v2v"), strict=True)
    clip = Video(frames=e["v2v.video_u8"].numpy(), fps=12)
    latents, video = run(pipe.stream(clip, SURFING, sampler=sampler, steps=steps, fit="stretch", noise=noise))
    assert len(latents) == steps
    assert gap(latents[-1], f"v2v.{key}.result") < GUIDED
    assert video.fps == 12
    if key == "fast":
        assert levels(video.frames, e["v2v.frames_u8"]) <= 1


def test_the_second_stage_reads_its_own_words_behind_the_prompt() -> None:
    pipe = VideoToVideoPipeline(model("v2v"))
    told: list[Tensor] = []
    hook = pipe.components.unet.register_forward_pre_hook(lambda _, args: told.append(args[2].tokens))
    try:
        pipe(expected()["v2v.video_u8"].numpy(), SURFING, steps=1)
    finally:
        hook.remove()
    negative, positive = told[0].split(1)
    assert (positive - expected()["v2v.y"]).abs().max() < 2e-5
    assert (negative - expected()["v2v.y_negative"]).abs().max() < 2e-5


def test_sr600_walks_the_clip_up_as_the_reference_does() -> None:
    e = expected()
    pipe = VideoToVideoPipeline(model("v2v", "vgen-sr600"), strict=True)
    *steps, video = pipe.stream(
        e["v2v.video_u8"].numpy(), SURFING, steps=3, fit="stretch", width=64, height=48,
        noise=GivenNoise(posterior=e["v2v.vae.eps"]),
    )  # fmt: skip
    assert isinstance(video, Video)
    up = [step for step in steps if isinstance(step, Step) and step.stage == "inverting"]
    assert [step.t for step in up] == [0, 233, 466, 699]
    for i, step in enumerate(up):
        assert gap(step.latents, f"sr600.inversion.{i}") < 5e-5
    down = [step for step in steps if isinstance(step, Step) and step.stage == "denoising"]
    assert [step.index for step in down] == [1, 2, 3]
    assert down[0].t == 699
    assert all(now.t > later.t for now, later in pairwise(down))
