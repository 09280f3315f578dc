"""Plans on a CUDA device: limits that are emulated hold, predictions meet what is measured, the clip stays the same.

Networks of the published width, but of fewer blocks and with random weights, so that a test takes seconds.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import tiny_components
from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.modelscope import UNET, VAE
from kinescribe.checkpoints.source import blank
from kinescribe.components import Components
from kinescribe.media.video import Video
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.perf.apply import Applied
from kinescribe.perf.graph import RecordedDecoder
from kinescribe.perf.outline import loaded
from kinescribe.perf.plan import RUNGS, Device, Rung, first_fitting, need, planned
from kinescribe.pipelines.memory import release
from kinescribe.pipelines.planning import device_of, work_of
from kinescribe.pipelines.settings import resolve
from kinescribe.pipelines.text_to_video import TextToVideoPipeline

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

CUDA = torch.device("cuda")
ASKED = {"prompt": "a boat", "seed": 1, "steps": 2, "sampler": "ddim"}
SIZES = [(16, 256, 256), (24, 576, 320)]


def random(network: torch.nn.Module) -> torch.nn.Module:
    """The network of a blank one, on the processor in half precision, with small random weights."""
    network = network.to_empty(device="cpu").half().eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float32) * 0.02)
    return network


@pytest.fixture(scope="module")
def wide() -> Components:
    """The 1.7 B model with one block a level; its text tower stays the small one."""
    small = tiny_components()
    unet, vae = random(blank(replace(UNET, blocks_per_level=1, context_dim=16))), random(blank(VAE))
    assert isinstance(unet, UNet) and isinstance(vae, AutoencoderKL) and small.text is not None
    spec = replace(CATALOG["modelscope-1.7b"], name="wide")
    return replace(small, unet=unet, vae=vae, text=small.text.half(), spec=spec)


@pytest.fixture
def components(wide: Components) -> Iterator[Components]:
    """The model in main memory, to work on the GPU."""
    wide.to("cpu")
    wide.memory, wide.works_on = "auto", CUDA
    release()
    torch.cuda.reset_peak_memory_stats()
    yield wide
    torch.cuda.set_per_process_memory_fraction(1.0)


def made(components: Components, frames: int, width: int, height: int) -> Video:
    return TextToVideoPipeline(components)(**ASKED, frames=frames, width=width, height=height)


def on_rung(components: Components, rung: Rung, size: tuple[int, int, int]) -> tuple[Video, int, int]:
    """A clip made on a rung, the peak that was predicted, and the one that was measured."""
    job = resolve_size(components, size)
    work, device = work_of(job, components.spec), device_of(components)
    plan = planned(loaded(components), work, device, rung)
    components.memory = "roomy"
    components.placement = Applied(components, CUDA, plan, ())
    components.placement.follow = lambda *_: None  # type: ignore[attr-defined] - this plan and no other
    torch.cuda.reset_peak_memory_stats()
    return made(components, *size), plan.peak, torch.cuda.max_memory_allocated()


def resolve_size(components: Components, size: tuple[int, int, int]):  # type: ignore[no-untyped-def] # noqa: ANN201
    from kinescribe.options import text_to_video

    frames, width, height = size
    return resolve(text_to_video(**ASKED, frames=frames, width=width, height=height), components.spec)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_the_prediction_is_within_a_tenth_of_the_measured_peak(
    components: Components, rung: Rung, size: tuple[int, int, int]
) -> None:
    _, predicted, measured = on_rung(components, rung, size)
    assert predicted == pytest.approx(measured, rel=0.1)


def test_every_rung_gives_the_same_clip(components: Components) -> None:
    clips = [on_rung(components, rung, (8, 128, 128))[0].frames for rung in RUNGS]
    merged, apart = (clips[[rung.merged for rung in RUNGS].index(at_once)] for at_once in (True, False))
    for rung, clip in zip(RUNGS, clips, strict=True):
        assert np.array_equal(clip, merged if rung.merged else apart), rung.name
    assert np.abs(merged.astype(int) - apart).mean() < 1.0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", range(1, len(RUNGS)))
def test_within_an_emulated_limit_the_clip_is_made(
    components: Components, size: tuple[int, int, int], step: int
) -> None:
    """Each limit is just enough for one rung, so that the plan must find that one or a lower one, and keep to it."""
    work = work_of(resolve_size(components, size), components.spec)
    least = planned(loaded(components), work, Device(kind="cuda", free=1 << 40), RUNGS[step])
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(need(least) * 1.01 / total)
    assert first_fitting(loaded(components), work, device_of(components)) is not None
    clip = made(components, *size)
    assert len(clip.frames) == size[0]
    assert torch.cuda.max_memory_allocated() < need(least) * 1.01


def test_ample_memory_means_the_roomy_rung(components: Components) -> None:
    made(components, 4, 64, 64)
    assert isinstance(components.placement, Applied)
    assert components.placement.plan.rung == RUNGS[0]
    assert components.unet.head.weight.device.type == "cuda"


@torch.inference_mode()
def test_a_recorded_decoding_gives_what_a_plain_one_gives(components: Components) -> None:
    vae = components.vae.to(CUDA)
    decoder = RecordedDecoder(vae)
    for pictures in (2, 2, 2, 1, 1, 2):
        latents = torch.randn(pictures, 4, 16, 24, device=CUDA).half()
        torch.testing.assert_close(decoder(latents), vae.decode(latents))
