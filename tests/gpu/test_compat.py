"""The diffusers door on a CUDA device: same noise, same clip as on the processor, offloaded or not."""

import warnings

import pytest
import torch

from goldens import folder
from kinescribe.compat.diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    I2VGenXLPipeline,
    TextToVideoSDPipeline,
    VideoToVideoSDPipeline,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

FOLDER = folder("text_to_video/diffusers")


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


@pytest.mark.parametrize("offloaded", [False, True])
def test_a_picture_and_a_clip_give_on_cuda_what_they_give_on_the_processor(offloaded: bool) -> None:
    pictured = folder("image_and_video_to_video/i2vgen-xl")
    video = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    made = []
    for device in ("cpu", "cuda"):
        first = I2VGenXLPipeline.from_pretrained(pictured, variant="fp16")
        second = VideoToVideoSDPipeline.from_pretrained(FOLDER)
        for pipe in (first, second) if device == "cuda" else ():
            pipe.enable_model_cpu_offload() if offloaded else pipe.to("cuda")
        # the latents of the picture follow the generator of its device: its mean is what both share
        first._components.vae.quantise.bias.data[4:] = -100
        options = {
            "height": 64,
            "width": 64,
            "num_frames": 4,
            "num_inference_steps": 4,
            "output_type": "latent",
        }
        generator = torch.Generator().manual_seed(3)
        made.append(first("a boat", pictured / "test.png", generator=generator, **options).frames.cpu())
        again = second(
            "a boat", video, num_inference_steps=5, generator=generator, output_type="latent"
        ).frames
        made.append(again.cpu())
    for wanted, found in zip(made[:2], made[2:], strict=True):
        assert (found - wanted).abs().max() < 5e-3 * wanted.abs().max()
