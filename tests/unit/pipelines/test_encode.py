"""From pixels to latents and embeddings: a few frames at a time, any size, every way to fit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conftest import tiny_components
from kinescribe.components import Components
from kinescribe.errors import KinescribeWarning, NumbersError
from kinescribe.models.vae import AutoencoderKL, DiagonalGaussian
from kinescribe.ops.slices import at_most
from kinescribe.pipelines.encode import encode, frame_pixels, middle_of, mirrored, shaped


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def latents(vae: AutoencoderKL, images: Tensor, noise: Tensor | None = None) -> Tensor:
    with torch.inference_mode():
        return encode(vae, lambda part: images[part], len(images), (24, 16), noise)


def test_latents_are_picked_by_noise_and_scaled(components: Components, images: Tensor) -> None:
    vae, noise = components.vae, torch.randn(5, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        posterior = vae.encode(images)
    assert torch.allclose(latents(vae, images), 0.5 * posterior.mean, atol=1e-6)
    picked = 0.5 * (posterior.mean + posterior.std * noise)
    assert torch.allclose(latents(vae, images, noise), picked, atol=1e-6)


@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_a_few_frames_at_a_time_change_nothing(
    components: Components, images: Tensor, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    noise = torch.randn(5, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    whole = latents(components.vae, images, noise)
    sizes: list[int] = []
    encoded = components.vae.encode

    def counted(images: Tensor) -> DiagonalGaussian:
        sizes.append(len(images))
        return encoded(images)

    monkeypatch.setattr(components.vae, "encode", counted)
    with at_most(pixels=together * 16 * 24):
        assert torch.allclose(latents(components.vae, images, noise), whole, atol=1e-6)
    assert max(sizes) == together
    assert sum(sizes) == 5


def test_memory_that_runs_out_makes_frames_go_one_by_one(
    components: Components, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, encoded = latents(components.vae, images), components.vae.encode

    def short(images: Tensor) -> DiagonalGaussian:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encoded(images)

    monkeypatch.setattr(components.vae, "encode", short)
    with pytest.warns(KinescribeWarning, match="while encoding: going on with one frame at a time"):
        assert torch.allclose(latents(components.vae, images), whole, atol=1e-6)


def test_an_overflowing_encoder_is_tried_again_in_float32(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = tiny_components().vae.half()
    encoded = vae.encode

    def overflow(images: Tensor) -> DiagonalGaussian:
        found = encoded(images)
        factor = torch.nan if images.dtype == torch.float16 else 1.0
        return DiagonalGaussian(found.mean * factor, found.std)

    monkeypatch.setattr(vae, "encode", overflow)
    with pytest.warns(KinescribeWarning, match="encoding in float16 overflowed: encoded again in float32"):
        assert latents(vae, images).isfinite().all()
    assert vae.quantise.weight.dtype == torch.float16


def test_an_encoder_that_never_gives_numbers_is_an_error(components: Components, images: Tensor) -> None:
    with torch.no_grad():
        components.vae.quantise.bias[0] = torch.inf
    with pytest.raises(NumbersError, match="while encoding, in float32 too") as caught:
        latents(components.vae, images)
    assert caught.value.exit_code == 5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_borders_are_mirrored_and_can_be_cut_off_again(h: int, w: int, down: int, right: int) -> None:
    frames = np.random.default_rng(h * 100 + w).integers(0, 255, (2, h, w, 3), np.uint8)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    wide = mirrored(images, w + right, h + down)
    assert wide.shape == (2, 3, h + down, w + right)
    pixels = wide.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    assert np.array_equal(middle_of(pixels, w, h), frames)
    assert set(np.unique(pixels)) <= set(np.unique(frames))


def test_a_mirror_begins_behind_the_border() -> None:
    row = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert mirrored(row, 8, 1)[0, 0, 0].tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_frames_are_fitted_and_their_levels_lie_between_minus_one_and_one() -> None:
    frames = np.zeros((1, 8, 16, 3), np.uint8)
    frames[:, :, 8:] = 255
    crop, pad, stretch = (frame_pixels(frames, 8, 8, how, strict=False) for how in ("crop", "pad", "stretch"))
    for images in (crop, pad, stretch):
        assert images.shape == (1, 3, 8, 8)
        assert images.min() == -1
        assert images.max() == 1
    assert pad[0, 0, 0].tolist() == [-1.0] * 8  # a bar
    assert stretch[0, 0, 0, 0] == -1
    assert stretch[0, 0, 0, 7] == 1


def test_only_a_crop_is_left_to_the_one_who_crops() -> None:
    picture = np.full((10, 30, 3), 200, np.uint8)
    assert shaped(picture, 8, 8, "crop") is picture
    assert shaped(picture, 8, 8, "pad").shape == (8, 8, 3)
    assert not shaped(picture, 8, 8, "pad")[0].any()
    assert (shaped(picture, 8, 8, "stretch") == 200).all()
