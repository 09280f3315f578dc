import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kinescribe.errors import OptionError
from kinescribe.media.crop import DEVIATION, MEAN, autoencoder_pixels, centre_crop, clip_pixels


def white(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1024, 576), (80, 45)])
def test_the_black_line_of_the_reference_is_there_only_when_strict(width: int, height: int) -> None:
    strict = centre_crop(white(height, width), 448, 448, strict=True)
    assert (strict[0] == 0).all() and (strict[1:] == 255).all()
    assert (centre_crop(white(height, width), 448, 448) == 255).all()


def test_the_black_line_is_a_column_where_the_width_is_short() -> None:
    strict = centre_crop(white(512, 512), 1280, 704, strict=True)
    assert (strict[:, 0] == 0).all() and (strict[:, 1:] == 255).all()
    assert (centre_crop(white(512, 512), 1280, 704) == 255).all()


def test_two_sizes_of_five_are_short() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(200, 1500, (4000, 2))
    scales = sizes.min(1) / 448
    short = np.mean(
        [round(w // s) < 448 or round(h // s) < 448 for (w, h), s in zip(sizes, scales, strict=True)]
    )
    assert 0.35 < short < 0.48


@given(st.integers(8, 120), st.integers(8, 120), st.sampled_from([(64, 64), (80, 44), (33, 70)]))
def test_no_size_has_a_black_line_by_default(width: int, height: int, target: tuple[int, int]) -> None:
    crop = centre_crop(white(height, width), *target)
    assert crop.shape == (target[1], target[0], 3) and (crop == 255).all()


def test_where_no_side_is_short_both_ways_agree() -> None:
    random = np.random.default_rng(1)
    agreed = 0
    for width, height in random.integers(20, 300, (40, 2)):
        image = random.integers(1, 256, (height, width, 3), dtype=np.uint8)
        strict, plain = (centre_crop(image, 64, 48, strict=flag) for flag in (True, False))
        if (strict[0] != 0).any() and (strict[:, 0] != 0).any():
            assert np.array_equal(strict, plain)
            agreed += 1
    assert agreed > 15


def test_the_middle_is_kept() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 200
    assert (centre_crop(image, 50, 50)[:, 1:-1] == 200).all()


def test_a_picture_that_would_grow_without_bound_is_refused() -> None:
    for strict in (True, False):
        with pytest.raises(OptionError, match="cut it first"):
            centre_crop(np.zeros((1, 20_000, 3), np.uint8), 448, 448, strict=strict)


def test_the_image_tower_sees_normalised_pixels() -> None:
    image = np.empty((100, 160, 3), np.uint8)
    image[:] = (10, 128, 250)
    pixels = clip_pixels(image, crop=(448, 448))
    assert pixels.shape == (3, 224, 224) and pixels.dtype == np.float32 and pixels.flags.c_contiguous
    wanted = (np.array([10, 128, 250]) / 255 - MEAN) / DEVIATION
    assert np.abs(pixels - wanted[:, None, None]).max() < 1e-6
    assert clip_pixels(image, crop=(64, 64), side=32).shape == (3, 32, 32)


def test_the_image_tower_sees_the_crop_shrunk_by_pillow() -> None:
    image = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    small = Image.fromarray(centre_crop(image, 448, 448)).resize((224, 224), Image.Resampling.BILINEAR)
    wanted = (np.asarray(small).astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
    assert np.array_equal(clip_pixels(image, crop=(448, 448)), wanted.transpose(2, 0, 1))


def test_the_autoencoder_sees_the_crop_from_minus_one_to_one() -> None:
    image = np.random.default_rng(3).integers(0, 256, (70, 120, 3), dtype=np.uint8)
    for strict in (True, False):
        pixels = autoencoder_pixels(image, 64, 48, strict=strict)
        assert pixels.shape == (3, 48, 64) and pixels.dtype == np.float32
        back = np.rint((pixels + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
        assert np.array_equal(back, centre_crop(image, 64, 48, strict=strict))
    assert autoencoder_pixels(white(70, 120), 64, 48).max() == 1
    assert autoencoder_pixels(white(70, 120) * 0, 64, 48).min() == -1
