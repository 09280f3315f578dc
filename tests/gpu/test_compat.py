"""The diffusers door on a CUDA device: same noise, same clip as on the processor, offloaded or not."""

import warnings
from pathlib import Path

import pytest
import torch

from kinescribe.compat.diffusers import DiffusionPipeline, DPMSolverMultistepScheduler, TextToVideoSDPipeline

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

FOLDER = Path(__file__).parents[1] / "fixtures" / "text_to_video" / "diffusers"


def clip(pipe: TextToVideoSDPipeline, device: str = "cpu") -> torch.Tensor:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    generator = torch.Generator(device).manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pipe("a panda", height=64, width=96, num_frames=3, num_inference_steps=5, generator=generator)
    return torch.from_numpy(made.frames)


def test_cuda_gives_the_clip_of_the_processor() -> None:
    wanted = clip(DiffusionPipeline.from_pretrained(FOLDER))
    made = clip(DiffusionPipeline.from_pretrained(FOLDER).to("cuda"))
    assert (made - wanted).abs().max() < 5e-3


def test_offload_leaves_the_networks_in_main_memory_and_changes_nothing() -> None:
    resident = DiffusionPipeline.from_pretrained(FOLDER).to("cuda")
    offloaded = DiffusionPipeline.from_pretrained(FOLDER)
    offloaded.enable_model_cpu_offload()
    assert torch.equal(clip(resident), clip(offloaded))
    assert offloaded.device.type == "cpu"
    assert offloaded.vae.device.type == "cpu"


def test_half_precision_follows_and_a_cuda_generator_draws_on_the_device() -> None:
    pipe = DiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float16, variant="fp16")
    full = clip(DiffusionPipeline.from_pretrained(FOLDER, variant="fp16").to("cuda"), "cuda")
    half = clip(pipe.to("cuda"), "cuda")
    assert pipe.unet.dtype == torch.float16
    assert half.shape == full.shape
    assert bool(torch.isfinite(half).all())
