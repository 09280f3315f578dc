"""SDEdit with text-to-video weights: the same latents as the installed diffusers gives from the same noise."""

from typing import Any

import numpy as np
import pytest
import torch

from goldens import folder
from kinescribe import VideoToVideoPipeline
from kinescribe.checkpoints.load import load_components
from kinescribe.pipelines.denoise import Step
from kinescribe.pipelines.draws import GivenNoise

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
diffusers = pytest.importorskip("diffusers")

FOLDER = folder("text_to_video/diffusers")
PROMPT, NEGATIVE = "a panda eating bamboo on a rock", "blurry"
FRAMES, HEIGHT, WIDTH = 3, 64, 96


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)


def theirs(clip: np.ndarray, scheduler: str, options: dict[str, Any]) -> torch.Tensor:
    parts = diffusers.DiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32).components
    parts["scheduler"] = getattr(diffusers, scheduler).from_config(parts["scheduler"].config)
    pipe = diffusers.VideoToVideoSDPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        PROMPT, video=list(clip.astype(np.float32) / 255), negative_prompt=NEGATIVE, output_type="latent",
        generator=torch.Generator().manual_seed(0), **options,
    )  # fmt: skip
    latents: torch.Tensor = made.frames
    return latents


@pytest.mark.parametrize(
    ("scheduler", "sampler"), [("DDIMScheduler", "ddim"), ("DPMSolverMultistepScheduler", "dpmpp_2m")]
)
@pytest.mark.parametrize(("steps", "strength"), [(10, 0.6), (7, 0.35), (4, 1.0)])
def test_a_clip_made_anew_ends_where_diffusers_ends(
    clip: np.ndarray, scheduler: str, sampler: str, steps: int, strength: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    posterior, initial = (
        torch.randn(FRAMES, 4, HEIGHT // 8, WIDTH // 8, generator=generator) for _ in range(2)
    )  # frame by frame, both
    noise = GivenNoise(posterior=posterior, initial=initial.transpose(0, 1)[None])
    pipe = VideoToVideoPipeline(load_components(FOLDER, dtype=torch.float32))
    *made, _ = pipe.stream(
        clip, PROMPT, negative_prompt=NEGATIVE, steps=steps, strength=strength, sampler=sampler, noise=noise,
        guidance=9.0,
    )  # fmt: skip
    last = made[-1]
    assert isinstance(last, Step)
    options = {"num_inference_steps": steps, "strength": strength, "guidance_scale": 9.0}
    wanted = theirs(clip, scheduler, options)
    assert (last.latents - wanted).abs().max() < 1e-4 * wanted.abs().max()
