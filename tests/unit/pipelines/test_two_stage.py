"""Two models in a row: frames pass in memory, and one model at a time is there."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from conftest import tiny_components
from kinescribe import ImageToVideoPipeline, TextToVideoPipeline, Video, VideoToVideoPipeline
from kinescribe.errors import OptionError
from kinescribe.media.recipe import Recipe
from kinescribe.options import video_to_video
from kinescribe.pipelines.denoise import Step
from kinescribe.pipelines.two_stage import freed, refined
from unit.pipelines.conftest import picture_components, refining_components

pytestmark = pytest.mark.filterwarnings("ignore::kinescribe.errors.KinescribeWarning")


def second() -> VideoToVideoPipeline:
    return VideoToVideoPipeline(refining_components())


def test_the_second_refines_the_frames_that_the_first_made(picture: np.ndarray) -> None:
    first = ImageToVideoPipeline(picture_components(first_frame=False))
    request = video_to_video(prompt="a boat", seed=2, steps=2)
    *steps, video = refined(first.stream(picture, seed=1, steps=2), second, request)
    assert isinstance(video, Video)
    assert [step.stage for step in steps if isinstance(step, Step)] == [
        "first stage, denoising", "first stage, denoising", "second stage, denoising", "second stage, denoising",
    ]  # fmt: skip
    made = first(picture, seed=1, steps=2)
    assert np.array_equal(second()(made, request).frames, video.frames)
    assert video.size == (32, 48)
    recipe = Recipe.model_validate(video.recipe)
    assert recipe.before is not None and recipe.source is not None
    assert recipe.before.as_dict() == made.recipe
    assert (recipe.kind, recipe.before.kind, recipe.source.frames) == ("video-to-video", "image-to-video", 3)


@pytest.mark.parametrize("keep", [False, True])
def test_the_first_model_goes_before_the_second_comes_unless_kept(keep: bool) -> None:
    first = TextToVideoPipeline(tiny_components())
    there: list[str] = []

    def load() -> VideoToVideoPipeline:
        there.append(first.components.unet.head.weight.device.type)
        return second()

    free: Callable[[], None] | None = None if keep else lambda: freed(first.components)
    *_, video = refined(first.stream("a boat", seed=1), load, video_to_video(seed=1), free_first=free)  # type: ignore[arg-type]
    assert isinstance(video, Video)
    assert there == ["cpu" if keep else "meta"]


def test_a_model_that_was_freed_holds_no_numbers() -> None:
    components = picture_components(first_frame=True)
    freed(components)
    assert all(p.device == torch.device("meta") for net in components.networks for p in net.parameters())


def test_a_first_stage_without_one_clip_is_an_error() -> None:
    with pytest.raises(OptionError, match="made no clip"):
        list(refined(iter(()), second, video_to_video()))
