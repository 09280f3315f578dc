import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinescribe.media.fit import Fit, fit_frames, fit_note

SIDES = st.integers(1, 90)


def bands(height: int, width: int) -> np.ndarray:
    """Two frames: red left third, green middle, blue right third; the second darker."""
    frame = np.zeros((height, width, 3), np.uint8)
    for index in range(3):
        frame[:, index * width // 3 : (index + 1) * width // 3, index] = 240
    return np.stack([frame, frame // 2])


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
def test_frames_of_that_size_come_back_as_they_are(how: Fit, ball: np.ndarray) -> None:
    assert fit_frames(ball, 96, 64, how) is ball
    assert fit_note((96, 64), 96, 64, how) == "" and fit_note((96, 64), 960, 640, how) == ""


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["crop", "pad", "stretch"]))
def test_any_size_fits_any_other(w: int, h: int, width: int, height: int, how: Fit) -> None:
    fitted = fit_frames(np.full((2, h, w, 3), 77, np.uint8), width, height, how)
    assert fitted.shape == (2, height, width, 3) and fitted.dtype == np.uint8
    assert (fitted == 77).any() and set(np.unique(fitted)) <= ({0, 77} if how == "pad" else {77})
    assert "\n" not in fit_note((w, h), width, height, how)


def test_cropping_keeps_the_middle_and_says_what_went() -> None:
    fitted = fit_frames(bands(60, 180), 60, 60, "crop")
    assert fitted[0, 30, 30].tolist() == [0, 240, 0] and fitted[1, 30, 30].tolist() == [0, 120, 0]
    assert (fitted[0, :, 2:-2, (0, 2)] == 0).all()
    assert fit_note((180, 60), 60, 60, "crop") == "cropped 33.3% at the left and 33.3% at the right"
    assert fit_note((60, 180), 60, 60, "crop") == "cropped 33.3% at the top and 33.3% at the bottom"


def test_padding_keeps_everything_between_black_bars() -> None:
    fitted = fit_frames(bands(60, 180), 90, 90, "pad")
    assert (fitted[:, :30] == 0).all() and (fitted[:, 60:] == 0).all()
    assert [fitted[0, 45, x].argmax() for x in (10, 45, 80)] == [0, 1, 2]
    assert fit_note((180, 60), 90, 90, "pad") == "black bars over 33.3% at the top and 33.3% at the bottom"


def test_stretching_keeps_everything_and_bends_it() -> None:
    fitted = fit_frames(bands(60, 180), 60, 60, "stretch")
    assert [fitted[0, 30, x].argmax() for x in (5, 30, 55)] == [0, 1, 2]
    assert fit_note((180, 60), 60, 60, "stretch") == "stretched 3.00 times in height"
    assert fit_note((60, 60), 180, 60, "stretch") == "stretched 3.00 times in width"


def test_shrinking_does_not_alias() -> None:
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    small = fit_frames(np.repeat(board[None, ..., None], 3, -1), 32, 32, "stretch")
    assert np.abs(small.astype(int) - 127).max() < 8


def test_a_shape_off_by_less_than_half_a_hundredth_is_no_word_worth() -> None:
    assert (
        fit_note((1281, 720), 1280, 720, "crop") == "" and fit_note((1281, 720), 1280, 720, "stretch") == ""
    )
