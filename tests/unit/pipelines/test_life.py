"""The two figures of a clip made of a picture, and the one warning."""

import warnings

import numpy as np
import pytest

from kinescribe.errors import KinescribeWarning
from kinescribe.pipelines.life import warn_of_stillness


@pytest.fixture
def still(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[None], 4, 0)


def test_a_clip_that_moves_and_begins_with_the_picture_is_only_reported(
    clip: np.ndarray, picture: np.ndarray
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        like, moved = warn_of_stillness(clip, picture)
    assert like.startswith("first frame like the picture 0.9")
    assert float(moved.removeprefix("motion ")) > 10


def test_a_still_clip_is_one_warning_with_what_to_turn(still: np.ndarray, picture: np.ndarray) -> None:
    with pytest.warns(KinescribeWarning) as seen:
        assert warn_of_stillness(still, picture)[1] == "motion 0.0"
    (said,) = (str(warning.message) for warning in seen)
    assert said.startswith(
        "almost nothing moves (0.0, below 0.8): try another seed, or a lower condition_fps"
    )
    assert "a prompt that says what moves" in said


def test_a_model_that_reads_no_prompt_is_told_of_none(still: np.ndarray) -> None:
    with pytest.warns(KinescribeWarning, match="nothing moves") as seen:
        assert warn_of_stillness(still, None) == ("motion 0.0",)
    assert "prompt" not in str(seen[0].message)


def test_another_picture_in_the_first_frame_is_said_in_the_same_warning(
    still: np.ndarray, picture: np.ndarray
) -> None:
    with pytest.warns(KinescribeWarning) as seen:
        warn_of_stillness(255 - still, picture)
    (said,) = (str(warning.message) for warning in seen)
    assert "the first frame has little of the picture (0.00 of 1); almost nothing moves" in said
    assert "a prompt that says what the picture shows" in said


def test_where_only_its_meaning_counts_the_picture_is_not_looked_for(clip: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(warn_of_stillness(255 - clip, None)) == 1


def test_a_grey_last_frame_is_said(clip: np.ndarray, picture: np.ndarray) -> None:
    clip[-1] = 127
    with pytest.warns(KinescribeWarning, match="the last frame is grey"):
        warn_of_stillness(clip, picture)
    grey = np.full_like(clip, 127)
    grey[::2, :12] = 90
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_stillness(grey, grey[0])


def test_one_frame_cannot_move(picture: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_stillness(picture[None], None) == ()
