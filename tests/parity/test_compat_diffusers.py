"""The diffusers door against diffusers itself, both reading the same folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kinescribe.compat.diffusers as door
from goldens import folder

# importing diffusers and its model classes takes seconds
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FOLDER = folder("text_to_video/diffusers")
SMALL: dict[str, Any] = {"height": 64, "width": 96, "num_frames": 3, "output_type": "latent"}
PANDA = "A panda eating bamboo on a rock."


@pytest.fixture(scope="module")
def theirs() -> Any:
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    pipe = diffusers.TextToVideoSDPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def ours() -> door.TextToVideoSDPipeline:
    return door.DiffusionPipeline.from_pretrained(FOLDER)


def latents(pipe: Any, **options: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1234)
    return pipe(**{"prompt": PANDA, "generator": generator, **SMALL, **options}).frames


def with_scheduler(pipe: Any, module: Any, name: str, **changes: Any) -> Any:
    published = getattr(module, "DDIMScheduler").from_pretrained(FOLDER, subfolder="scheduler")  # noqa: B009
    pipe.scheduler = getattr(module, name).from_config(published.config, **changes)
    return pipe


def compare(
    theirs: Any, ours: Any, name: str, *, settings: dict[str, Any] | None = None, **options: Any
) -> None:
    diffusers = pytest.importorskip("diffusers")

    expected = latents(with_scheduler(theirs, diffusers, name, **(settings or {})), **options)
    result = latents(with_scheduler(ours, door, name, **(settings or {})), **options)
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 5e-5 * expected.abs().max()


@pytest.mark.parametrize("steps", [5, 10])
@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "UniPCMultistepScheduler",
        "LCMScheduler",
        "PNDMScheduler",
    ],
)
def test_latents_equal_diffusers_with_every_scheduler(theirs: Any, ours: Any, name: str, steps: int) -> None:
    compare(theirs, ours, name, num_inference_steps=steps)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading"}),
        ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
        ("DPMSolverSinglestepScheduler", {"use_karras_sigmas": True}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
        ("UniPCMultistepScheduler", {"timestep_spacing": "leading"}),
        ("DDIMScheduler", {"timestep_spacing": "trailing"}),
        ("DDIMScheduler", {"timestep_spacing": "linspace"}),
        ("DDIMScheduler", {"set_alpha_to_one": True}),
    ],
)
def test_settings_change_what_they_change_there(
    theirs: Any, ours: Any, name: str, settings: dict[str, Any]
) -> None:
    compare(theirs, ours, name, settings=settings, num_inference_steps=7)


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_scale": 1.0},
        {"guidance_scale": 3, "negative_prompt": "a dog on a rock"},
        {"eta": 0.7},
        {"prompt": ["a cat", "a dog eating bamboo"]},
        {"prompt": ["a cat", "a dog"], "negative_prompt": ["rock", "panda"]},
        {"prompt": "Hello!!! Wow! A panda!"},
        {"prompt": "a panda " * 60},
        {"num_frames": 1},
        {"num_frames": 5, "height": 64, "width": 64},
    ],
)
def test_call_arguments_mean_what_they_mean_there(theirs: Any, ours: Any, options: dict[str, Any]) -> None:
    compare(theirs, ours, "DDIMScheduler", num_inference_steps=3, **options)


def test_a_list_of_generators_gives_each_clip_its_own(theirs: Any, ours: Any) -> None:
    for pipe in (theirs, ours):
        pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config)
    made = []
    for pipe in (theirs, ours):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        made.append(latents(pipe, prompt=["a cat", "a dog"], generator=generators, num_inference_steps=2))
    assert (made[0] - made[1]).abs().max() <= 5e-5 * made[0].abs().max()


def test_without_a_generator_the_global_one_counts(theirs: Any, ours: Any) -> None:
    made = []
    for module, pipe in ((__import__("diffusers"), theirs), (door, ours)):
        with_scheduler(pipe, module, "EulerAncestralDiscreteScheduler")
        torch.manual_seed(17)
        made.append(latents(pipe, generator=None, num_inference_steps=3))
    assert (made[0] - made[1]).abs().max() <= 5e-5 * made[0].abs().max()


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_callbacks_see_the_same_latents(theirs: Any, ours: Any, name: str) -> None:
    seen: list[list[tuple[int, float, Tensor]]] = []
    for module, pipe in ((__import__("diffusers"), theirs), (door, ours)):
        with_scheduler(pipe, module, name)
        calls: list[tuple[int, float, Tensor]] = []
        latents(
            pipe,
            num_inference_steps=4,
            callback=lambda i, t, x, calls=calls: calls.append((i, float(t), x.clone())),
            callback_steps=2,
        )
        seen.append(calls)
    assert [call[:2] for call in seen[0]] == [call[:2] for call in seen[1]]
    for (*_, expected), (*_, result) in zip(*seen, strict=True):
        assert (result - expected).abs().max() <= 5e-5 * expected.abs().max()


def test_embeddings_in_and_out(theirs: Any, ours: Any) -> None:
    expected = theirs.encode_prompt(PANDA, "cpu", 1, True, "a dog")
    result = ours.encode_prompt(PANDA, "cpu", 1, True, "a dog")
    for mine, other in zip(result, expected, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * other.abs().max()
    given = {"prompt": None, "prompt_embeds": result[0], "negative_prompt_embeds": result[1]}
    compare(theirs, ours, "DDIMScheduler", num_inference_steps=2, **given)


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_frames_equal_diffusers(theirs: Any, ours: Any, kind: str) -> None:
    made = []
    for module, pipe in ((__import__("diffusers"), theirs), (door, ours)):
        with_scheduler(pipe, module, "DPMSolverMultistepScheduler")
        made.append(latents(pipe, num_inference_steps=3, output_type=kind))
    if kind == "pil":
        expected, result = (
            np.stack([np.stack([np.asarray(f) for f in clip]) for clip in one]) for one in made
        )
        assert np.abs(expected.astype(int) - result).max() <= 1
        assert (expected != result).mean() < 1e-3
    else:
        expected, result = (np.asarray(one) for one in made)
        assert expected.shape == result.shape
        assert expected.dtype == result.dtype
        assert np.abs(expected - result).max() <= 1e-4


def test_half_precision_files_give_the_same_clip_about() -> None:
    diffusers = pytest.importorskip("diffusers")

    load: dict[str, Any] = {"torch_dtype": torch.float16, "variant": "fp16"}
    other = diffusers.TextToVideoSDPipeline.from_pretrained(FOLDER, **load)
    other.set_progress_bar_config(disable=True)
    expected = latents(other, num_inference_steps=5, guidance_scale=2.0)
    result = latents(
        door.DiffusionPipeline.from_pretrained(FOLDER, **load), num_inference_steps=5, guidance_scale=2.0
    )
    assert result.dtype == torch.float16
    assert (result.float() - expected.float()).abs().max() <= 0.02 * expected.float().abs().max()


def test_their_export_takes_our_frames(ours: Any, tmp_path: Path) -> None:
    utils = pytest.importorskip("diffusers.utils")
    pytest.importorskip("imageio")
    frames = latents(ours, num_inference_steps=1, output_type="np")[0]
    assert Path(utils.export_to_video(frames, str(tmp_path / "clip.mp4"))).is_file()
