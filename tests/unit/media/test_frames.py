import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.errors import OptionError
from kinescribe.media.frames import as_frames


def test_uint8_is_never_scaled(ball: np.ndarray) -> None:
    assert np.array_equal(as_frames(ball), ball)


def test_every_usual_form_gives_the_same_frames(ball: np.ndarray) -> None:
    floats = ball.astype(np.float32) / 255
    forms = [
        ball[None], floats, floats[None], list(ball), list(floats), [Image.fromarray(f) for f in ball],
        torch.from_numpy(ball), torch.from_numpy(floats), list(torch.from_numpy(ball)),
        [Image.fromarray(f).convert("RGBA") for f in ball], floats.astype(np.float64),
    ]  # fmt: skip
    for form in forms:
        assert np.array_equal(as_frames(form), ball)


@pytest.mark.parametrize(
    "shape", [(64, 64, 3), (2, 4, 64, 64, 3), (4, 64, 64), (4, 3, 64, 64), (0, 64, 64, 3)]
)
def test_another_shape_is_an_error_that_names_it(shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="shape"):
        as_frames(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("value", [-1.0, 255.0, float("nan"), float("inf")])
def test_floats_outside_0_to_1_are_an_error(value: float) -> None:
    with pytest.raises(OptionError, match="0 to 1"):
        as_frames(np.full((2, 8, 8, 3), value, np.float32))


def test_no_frames_and_other_types_are_errors() -> None:
    with pytest.raises(OptionError, match="no frames"):
        as_frames([])
    with pytest.raises(OptionError, match="int64"):
        as_frames(np.zeros((2, 8, 8, 3), np.int64))


def test_frames_of_different_sizes_are_an_error(ball: np.ndarray) -> None:
    with pytest.raises(OptionError, match="different sizes"):
        as_frames([ball[0], ball[0, :32]])
