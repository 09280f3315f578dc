"""From a picture to a clip: what a request gives, what a seed means, what a failure says."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kinescribe import ImageToVideo, ImageToVideoPipeline, TextToVideoPipeline, Video
from kinescribe.components import Components
from kinescribe.errors import KinescribeWarning, MemoryLimitError, NumbersError, OptionError
from kinescribe.models.conditions import Conditioning
from kinescribe.options import image_to_video
from kinescribe.pipelines.denoise import Step
from kinescribe.pipelines.draws import GivenNoise
from unit.pipelines.conftest import picture_components


@pytest.fixture(params=[False, True], ids=["meaning", "first frame"])
def parts(request: pytest.FixtureRequest) -> Components:
    warnings.simplefilter("ignore", KinescribeWarning)
    return picture_components(first_frame=request.param)


@pytest.fixture
def pipe(parts: Components) -> ImageToVideoPipeline:
    return ImageToVideoPipeline(parts)


@pytest.fixture
def whole() -> ImageToVideoPipeline:
    """One that reads text and takes the picture's latents."""
    warnings.simplefilter("ignore", KinescribeWarning)
    return ImageToVideoPipeline(picture_components(first_frame=True))


def told(pipe: ImageToVideoPipeline, picture: object, *prompt: str, **options: object) -> Conditioning:
    """What the UNet is told at the first step; the negative branch comes first."""
    seen: list[Conditioning] = []
    hook = pipe.components.unet.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    pipe(picture, *prompt, steps=1, seed=1, **options)
    hook.remove()
    return seen[0]


def test_a_picture_gives_a_clip_of_the_models_own_size(
    pipe: ImageToVideoPipeline, picture: np.ndarray
) -> None:
    video = pipe(picture, seed=1)
    assert isinstance(video, Video)
    assert video.frames.shape == (3, 24, 32, 3)
    assert video.frames.dtype == np.uint8
    assert video.fps == 4


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_clip_has_the_size_and_length_asked_however_the_picture_fits(
    pipe: ImageToVideoPipeline, picture: np.ndarray, fit: str
) -> None:
    video = pipe(picture, seed=1, frames=2, width=40, height=16, fps=12.5, fit=fit)
    assert video.frames.shape == (2, 16, 40, 3)
    assert video.fps == 12.5


def test_ways_to_fit_are_told_apart(pipe: ImageToVideoPipeline, picture: np.ndarray) -> None:
    tall = picture[:, :8]
    made = [pipe(tall, seed=1, fit=fit).frames for fit in ("crop", "pad", "stretch")]
    assert len({frames.tobytes() for frames in made}) == 3


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    pipe: ImageToVideoPipeline, picture: np.ndarray
) -> None:
    first, again, other = (pipe(picture, seed=seed).frames for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_another_picture_gives_another_clip(pipe: ImageToVideoPipeline, picture: np.ndarray) -> None:
    assert not np.array_equal(pipe(picture, seed=7).frames, pipe(picture[::-1], seed=7).frames)


def test_path_array_and_pil_are_the_same_picture(
    pipe: ImageToVideoPipeline, picture: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "stripes.png"
    Image.fromarray(picture).save(path)
    made = [pipe(source, seed=1) for source in (path, str(path), picture, Image.fromarray(picture))]
    assert len({video.frames.tobytes() for video in made}) == 1
    names = [video.recipe["source"]["name"] for video in made]  # type: ignore[index]
    assert names == ["stripes.png", "stripes.png", "memory", "memory"]


def test_stream_yields_every_step_and_then_the_video(pipe: ImageToVideoPipeline, picture: np.ndarray) -> None:
    *steps, video = pipe.stream(picture, seed=1, steps=4)
    assert [(step.index, step.total, step.stage) for step in steps if isinstance(step, Step)] == [
        (1, 4, "denoising"), (2, 4, "denoising"), (3, 4, "denoising"), (4, 4, "denoising"),
    ]  # fmt: skip
    assert isinstance(video, Video)


def test_picture_and_options_are_checked_before_any_work(
    pipe: ImageToVideoPipeline, picture: np.ndarray
) -> None:
    with pytest.raises(OptionError, match="steps=0"):
        pipe.stream(picture, steps=0)
    with pytest.raises(OptionError, match="spacing=karras: ddim knows"):
        pipe.stream(picture, spacing="karras")
    with pytest.raises(OptionError, match="no such file"):
        pipe.stream("nowhere.png")
    with pytest.raises(OptionError, match="noise has shape"):
        pipe.stream(picture, noise=torch.zeros(1, 4, 3, 3, 3))
    with pytest.raises(OptionError, match="seed beside a whole request"):
        pipe.stream(picture, image_to_video(), seed=3)


def test_the_recipe_makes_the_same_frames_again(pipe: ImageToVideoPipeline, picture: np.ndarray) -> None:
    video = pipe(picture, fit="pad", condition_fps=3)
    assert video.recipe["kind"] == "image-to-video"
    request = ImageToVideo.model_validate(video.recipe["request"])
    again = pipe(picture, request)
    assert np.array_equal(again.frames, video.frames)
    assert again.recipe == video.recipe


def test_given_noise_replaces_the_seeds_own(picture: np.ndarray, whole: ImageToVideoPipeline) -> None:
    """The picture's numbers come first, then those of the clip, both from the clip's own generator."""
    own = torch.Generator().manual_seed(5)
    posterior = torch.randn(1, 4, 3, 4, generator=own)
    initial = torch.randn(1, 4, 3, 3, 4, generator=own)
    frames = whole(picture, seed=5).frames
    given = GivenNoise(initial=initial, posterior=posterior)
    assert np.array_equal(whole(picture, seed=9, noise=given).frames, frames)
    assert not np.array_equal(whole(picture, seed=9, noise=initial).frames, frames)


def test_the_start_of_a_clip_from_meaning_is_shifted_frame_by_frame(picture: np.ndarray) -> None:
    pipe = ImageToVideoPipeline(picture_components(first_frame=False))
    own = torch.Generator().manual_seed(5)
    base = torch.randn(1, 4, 3, 3, 4, generator=own)
    shifted = base + 0.1 * torch.randn(1, 4, 3, 1, 1, generator=own)
    assert np.array_equal(pipe(picture, seed=5).frames, pipe(picture, seed=1, noise=shifted).frames)


def test_the_model_is_told_a_rate_and_the_file_has_its_own(
    pipe: ImageToVideoPipeline, picture: np.ndarray
) -> None:
    slow, fast, usual = (
        told(pipe, picture, **kw) for kw in ({"condition_fps": 2}, {"condition_fps": 30}, {"fps": 99.0})
    )
    assert slow.embedding is not None and fast.embedding is not None and usual.embedding is not None
    assert not torch.equal(slow.embedding, fast.embedding)
    assert torch.equal(usual.embedding, told(pipe, picture).embedding)  # type: ignore[arg-type]
    assert len(usual.embedding) == 1  # for both branches


def test_the_negative_branch_is_shown_no_picture_but_keeps_its_latents(
    picture: np.ndarray, whole: ImageToVideoPipeline
) -> None:
    negative, positive = told(whole, picture, "a boat", negative_prompt="two").tokens.split(1)
    other, _ = told(whole, picture[::-1], "a", negative_prompt="two").tokens.split(1)
    assert negative.shape == (1, 12 + 64 + 4, 16)
    assert torch.equal(negative[:, -4:], other[:, -4:])
    assert torch.equal(negative[:, :12], other[:, :12])
    assert torch.equal(negative[:, 12:76], positive[:, 12:76])
    assert not torch.equal(negative[:, -4:], positive[:, -4:])
    assert not torch.equal(negative[:, 12:76], other[:, 12:76])
    concat = told(whole, picture).concat
    assert concat is not None
    assert len(concat) == 1  # for both branches


def test_where_only_meaning_counts_four_tokens_are_all(picture: np.ndarray) -> None:
    seen = told(ImageToVideoPipeline(picture_components(first_frame=False)), picture)
    assert seen.tokens.shape == (2, 4, 16)
    assert seen.concat is None


def test_guidance_up_to_one_skips_the_negative_pass(pipe: ImageToVideoPipeline, picture: np.ndarray) -> None:
    with pytest.warns(KinescribeWarning, match="turns guidance off"):
        assert len(told(pipe, picture, guidance=1.0).tokens) == 1


def test_a_prompt_for_a_model_that_reads_none_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(OptionError, match="tiny reads no text: leave the prompt out"):
        ImageToVideoPipeline(picture_components(first_frame=False))(picture, "a boat")


def test_a_clip_longer_than_trained_warns_and_goes_on(
    pipe: ImageToVideoPipeline, picture: np.ndarray
) -> None:
    with pytest.warns(KinescribeWarning, match="trained on 4"):
        assert len(pipe(picture, seed=1, frames=5).frames) == 5


def test_one_frame_is_a_clip_too(pipe: ImageToVideoPipeline, picture: np.ndarray) -> None:
    video = pipe(picture, seed=1, frames=1)
    assert video.frames.shape == (1, 24, 32, 3)
    assert not any("motion" in note for note in video.notes)


def test_a_strict_pipeline_crops_a_pixel_short_where_the_references_do(parts: Components) -> None:
    wide = np.random.default_rng(0).integers(0, 255, (45, 80, 3), np.uint8)
    pipes = [ImageToVideoPipeline(parts, strict=strict) for strict in (False, True)]
    whole, short = (told(pipe, wide, width=56, height=56).tokens[1] for pipe in pipes)
    assert 0 < (whole - short).abs().max() < whole.abs().max()
    whole, short = (told(pipe, wide[:40, :40], width=40, height=40).tokens[1] for pipe in pipes)
    assert torch.equal(whole, short)


def test_figures_of_life_stand_in_the_notes(picture: np.ndarray, whole: ImageToVideoPipeline) -> None:
    like, moved = whole(picture, seed=1).notes
    assert like.startswith("first frame like the picture")
    assert moved.startswith("motion")


def test_a_still_clip_is_a_warning(parts: Components, picture: np.ndarray) -> None:
    with torch.no_grad():
        parts.vae.decoder.head.weight.zero_()
        parts.vae.decoder.head.bias.fill_(-1)
    with pytest.warns(KinescribeWarning, match="nothing moves"):
        ImageToVideoPipeline(parts)(picture, seed=1)


def test_numbers_that_are_not_finite_name_step_and_module(parts: Components, picture: np.ndarray) -> None:
    with torch.no_grad():
        parts.unet.middle.enter.conv1.bias[0] = torch.nan
    with pytest.raises(NumbersError, match=r"step 1 of 3 .*middle.enter.conv1"):
        ImageToVideoPipeline(parts)(picture, seed=1)


def test_memory_that_does_not_suffice_for_the_picture_says_so(parts: Components, picture: np.ndarray) -> None:
    def never(*_: object) -> Tensor:
        raise MemoryError

    assert parts.vision is not None
    parts.vision.forward = never  # type: ignore[method-assign]
    with pytest.raises(MemoryLimitError, match=r"out of memory while reading the picture .*--dtype"):
        ImageToVideoPipeline(parts)(picture, seed=1)


def test_models_for_something_else_are_named(components: Components, parts: Components) -> None:
    with pytest.raises(
        OptionError, match=r"tiny makes clips from text \(text-to-video\), and image-to-video"
    ):
        ImageToVideoPipeline(components)
    with pytest.raises(
        OptionError, match=r"tiny makes clips from a picture \(image-to-video\), and text-to-video"
    ):
        TextToVideoPipeline(parts)


def test_half_precision_computes_in_half_precision(parts: Components, picture: np.ndarray) -> None:
    parts.to(dtype=torch.bfloat16)
    assert ImageToVideoPipeline(parts)(picture, seed=1).frames.shape == (3, 24, 32, 3)
    mixed = replace(parts, vae=parts.vae.float())
    assert ImageToVideoPipeline(mixed)(picture, seed=1).frames.shape == (3, 24, 32, 3)
