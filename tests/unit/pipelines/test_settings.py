"""What a request leaves open: from the model, from the clip, never from nowhere."""

from dataclasses import replace

import pytest

from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.errors import OptionError
from kinescribe.options import image_to_video, text_to_video, video_to_video
from kinescribe.pipelines.settings import ClipSettings, resolve, resolve_clip, resolve_picture

SECOND, XL = CATALOG["modelscope-video-to-video"], CATALOG["i2vgen-xl"]
MEANING, TEXT = CATALOG["modelscope-image-to-video"], CATALOG["zeroscope-v2-xl"]


def clip(
    spec: ModelSpec, *, frames: int = 40, size: tuple[int, int] = (450, 256), **fields: object
) -> ClipSettings:
    return resolve_clip(video_to_video(**fields), spec, frames=frames, size=size, fps=12.5)


def test_a_refining_model_has_its_own_size_and_the_clips_frames_and_rate() -> None:
    job = clip(SECOND)
    assert (job.making.width, job.making.height) == (1280, 720)
    assert (job.making.frames, job.making.fps) == (40, 12.5)
    assert (job.strength, job.window, job.overlap) == (0.6, 32, 8)
    assert (job.making.guidance, job.making.guidance_rescale) == (7.5, 0.2)
    assert clip(CATALOG["vgen-sr600"]).strength == 0.7


def test_a_text_to_video_model_takes_the_clips_size_rounded_to_eights() -> None:
    job = clip(TEXT)
    assert (job.making.width, job.making.height) == (448, 256)
    assert (job.strength, job.window, job.overlap) == (0.6, 24, 6)
    assert job.making.guidance_rescale == 0


def test_one_side_keeps_the_shape_of_what_the_size_would_have_been() -> None:
    assert clip(SECOND, width=640).making.height == 360
    assert clip(SECOND, height=360).making.width == 640
    assert clip(TEXT, size=(320, 160), width=640).making.height == 320


def test_what_is_asked_is_taken() -> None:
    job = clip(SECOND, fps=30.0, strength=0.3, window=16, overlap=2, fit="pad", width=328, height=136)
    assert (job.making.fps, job.strength, job.window, job.overlap, job.fit) == (30, 0.3, 16, 2, "pad")
    assert (job.making.width, job.making.height) == (328, 136)


def test_a_short_clip_is_one_window() -> None:
    job = clip(SECOND, frames=1)
    assert (job.window, job.overlap) == (1, 0)


def test_an_overlap_that_does_not_fit_the_models_window_is_refused() -> None:
    with pytest.raises(OptionError, match="overlap=20: a window of 32 frames shares at most 16"):
        clip(SECOND, overlap=20)


@pytest.mark.parametrize("fields", [{}, {"width": 2048}])
def test_a_size_that_follows_and_is_too_large_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="4096 pixels at most: give a smaller width and height"):
        clip(TEXT, size=(1000, 5000), **fields)
    with pytest.raises(OptionError, match="4096 pixels at most"):
        resolve(text_to_video(prompt="a", height=4096), TEXT)


def test_settings_are_a_request_again() -> None:
    for job in (clip(SECOND), clip(TEXT, seed=3, sampler="heun", eta=None)):
        again = resolve_clip(job.request(), SECOND, frames=40, size=(450, 256), fps=99.0)
        assert again == job
    picture = resolve_picture(image_to_video(prompt="a", fit="pad", condition_fps=4), XL)
    assert resolve_picture(picture.request(), XL) == picture


def test_the_model_is_told_its_own_rate_unless_another_is_asked() -> None:
    assert resolve_picture(image_to_video(), XL).condition_fps == 16
    assert resolve_picture(image_to_video(), MEANING).condition_fps == 8
    job = resolve_picture(image_to_video(fps=24.0, condition_fps=2), MEANING)
    assert (job.making.fps, job.condition_fps) == (24, 2)


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_text_for_a_model_that_reads_none_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=f"reads no text: leave the {name} out"):
        resolve_picture(image_to_video(**{name: "a boat"}), MEANING)
    assert resolve_picture(image_to_video(**{name: "a boat"}), XL).making.width == 1280


def test_a_picture_model_has_a_grid_too() -> None:
    with pytest.raises(OptionError, match="width=72: i2vgen-xl takes multiples of 64: use 64 or 128"):
        resolve_picture(image_to_video(width=72, height=64), replace(XL, grid=64))
