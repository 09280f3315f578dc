"""Requests: every bad value is refused with its name, its value and what to do."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinescribe.errors import OptionError
from kinescribe.options import (
    ImageToVideo,
    Request,
    TextToVideo,
    VideoToVideo,
    image_to_video,
    text_to_video,
    video_to_video,
)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("frames", 0, "frames=0"),
        ("frames", -3, "frames=-3"),
        ("frames", 2.5, "frames=2.5"),
        ("frames", 10**6, "1024"),
        ("steps", 0, "steps=0"),
        ("steps", 1001, "steps=1001"),
        ("width", 65, "use 64 or 72"),
        ("width", 0, "width=0"),
        ("height", -8, "height=-8"),
        ("height", 100_000, "4096"),
        ("width", "64", "width='64'"),
        ("fps", 0, "fps=0"),
        ("fps", math.nan, "fps=NaN"),
        ("fps", math.inf, "fps=inf"),
        ("guidance", math.nan, "guidance=NaN"),
        ("guidance", -1.0, "guidance=-1"),
        ("guidance_rescale", 1.5, "guidance_rescale=1.5"),
        ("seed", -1, "seed=-1"),
        ("seed", 2**63, "seed="),
        ("seed", 1.5, "seed=1.5"),
        ("sampler", "plms", "sampler='plms'"),
        ("prompt", "", "prompt is empty"),
        ("prompt", " \n ", "prompt is empty"),
        ("prompt", "a\0b", "NUL"),
        ("prompt", "a\ud800b", "surrogate"),
        ("prompt", "x" * 10_001, "10001 characters"),
        ("negative_prompt", "a\0b", "negative_prompt"),
        ("strength", 1, "unknown option 'strength'"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(field: str, value: object, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        text_to_video(**{"prompt": "a boat", field: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("prompt", [None, 3, b"a boat", ["a boat"]])
def test_a_prompt_that_is_no_text_is_a_type_error_naming_the_type(prompt: object) -> None:
    with pytest.raises(TypeError, match=type(prompt).__name__):
        text_to_video(prompt=prompt)


def test_a_fault_of_the_whole_request_shows_no_other_field() -> None:
    with pytest.raises(OptionError, match="^the prompt is empty: "):
        text_to_video(prompt="", negative_prompt="secret")


def test_an_empty_prompt_is_allowed_when_meant() -> None:
    assert text_to_video(prompt="", unconditional=True).prompt == ""


def test_numpy_numbers_are_numbers() -> None:
    assert text_to_video(prompt="a", frames=np.int64(4), fps=np.float32(8)).frames == 4


@given(side=st.integers(1, 1300))
def test_a_size_is_kept_exactly_or_refused_with_the_nearest(side: int) -> None:
    try:
        assert text_to_video(prompt="a", width=side).width == side
        assert side % 8 == 0
    except OptionError as error:
        assert side % 8 or side < 8
        assert "width" in str(error)


@given(
    prompt=st.text(max_size=200),
    seed=st.none() | st.integers(0, 2**63 - 1),
    frames=st.none() | st.integers(1, 64),
)
def test_a_request_survives_json(prompt: str, seed: int | None, frames: int | None) -> None:
    try:
        request = text_to_video(prompt=prompt, seed=seed, frames=frames)
    except OptionError:
        return
    assert TextToVideo.model_validate_json(request.model_dump_json()) == request


def test_requests_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        text_to_video(prompt="a").steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("build", "field", "value", "said"),
    [
        (image_to_video, "condition_fps", 0, "condition_fps=0"),
        (image_to_video, "condition_fps", 8.5, "condition_fps=8.5"),
        (image_to_video, "fit", "squeeze", "fit='squeeze'"),
        (image_to_video, "frames", 0, "frames=0"),
        (image_to_video, "strength", 0.5, "unknown option 'strength'"),
        (video_to_video, "strength", 0, "strength=0"),
        (video_to_video, "strength", 1.01, "strength=1.01"),
        (video_to_video, "strength", math.nan, "strength=NaN"),
        (video_to_video, "window", 0, "window=0"),
        (video_to_video, "overlap", -1, "overlap=-1"),
        (video_to_video, "frames", 8, "unknown option 'frames'"),
        (video_to_video, "height", 50, "use 48 or 56"),
    ],
)
def test_bad_values_of_the_other_tasks_are_one_line_too(
    build: Callable[..., object], field: str, value: object, said: str
) -> None:
    with pytest.raises(OptionError) as caught:
        build(**{field: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_window_shares_half_of_itself_at_most() -> None:
    assert video_to_video(window=9, overlap=4).overlap == 4
    with pytest.raises(OptionError, match="^overlap=5: a window of 9 frames shares at most 4: use"):
        video_to_video(window=9, overlap=5)


def test_a_picture_and_a_clip_need_no_prompt_but_it_is_text() -> None:
    assert image_to_video().prompt == video_to_video().prompt == ""
    for build in (image_to_video, video_to_video):
        with pytest.raises(TypeError, match="NoneType"):
            build(prompt=None)


def test_tasks_share_their_fields() -> None:
    shared = set(Request.model_fields)
    for task in (TextToVideo, ImageToVideo, VideoToVideo):
        assert shared < set(task.model_fields)
        assert not shared & set(vars(task).get("__annotations__", {}))
