"""What a request is counted as: its stages, and counts that follow frames, branches and networks."""

from dataclasses import replace

import pytest
import torch

from goldens import folder
from kinescribe.checkpoints.detect import describe
from kinescribe.ops.slices import ROWS
from kinescribe.perf import demand
from kinescribe.perf.outline import Outline, outline_of
from kinescribe.perf.reuse import whole
from perf_requests import request

WORK = request(4, 64, 64)


@pytest.fixture
def pictured() -> Outline:
    """A small model like I2VGen-XL: text, a picture and its latents."""
    source = describe(folder("image_and_video_to_video/i2vgen-xl"), variant=None, spec=None)
    return outline_of(source, torch.float32, torch.float32)


def test_stages_follow_what_is_put_in(tiny: Outline, pictured: Outline) -> None:
    assert WORK.stages(tiny) == ("reading the prompt", "denoising", "decoding")
    assert replace(WORK, encoded=4).stages(tiny) == (
        "reading the prompt",
        "encoding",
        "denoising",
        "decoding",
    )
    assert replace(WORK, encoded=1).stages(pictured) == ("reading the picture", "denoising", "decoding")


def test_a_picture_and_its_tower_are_read_too(tiny: Outline, pictured: Outline) -> None:
    with_latents = demand.reading(pictured, replace(WORK, encoded=1))
    assert with_latents.flops > demand.reading(pictured, WORK).flops > 0
    assert with_latents.peak >= demand.encoding(pictured, WORK, 1).peak
    assert demand.reading(tiny, WORK).flops == 2 * demand.reading(tiny, replace(WORK, guided=False)).flops


def test_extra_channels_and_tokens_are_there(pictured: Outline) -> None:
    assert demand.denoising(pictured, WORK, merged=True, rows=ROWS).flops > 0


def test_two_branches_in_one_batch_share_what_comes_before_the_text(tiny: Outline) -> None:
    merged, apart = (demand.denoising_in_whole(tiny, WORK, merged=merged) for merged in (True, False))
    assert 0.5 * apart.flops < merged.flops < apart.flops
    one = demand.denoising_in_whole(tiny, replace(WORK, guided=False), merged=False)
    assert apart.flops == 2 * one.flops and apart.peak == one.peak < merged.peak


def test_frames_at_once_need_so_much_more(tiny: Outline) -> None:
    vae, latents = tiny.network("vae"), torch.empty(3, 4, 8, 8, device="meta")
    three, counted = demand.decoding(tiny, WORK, 3), demand.counted(lambda: vae.decode(latents))
    assert (three.peak, three.flops) == (counted.peak, counted.flops)


def test_what_the_encoder_leaves_counts_for_every_window_and_branch(tiny: Outline) -> None:
    one = demand.kept_bytes(tiny, replace(WORK, kept=1))
    assert demand.kept_bytes(tiny, WORK) == 0 < one
    assert demand.kept_bytes(tiny, replace(WORK, kept=3)) == 3 * one
    assert demand.kept_bytes(tiny, replace(WORK, kept=1, guided=False)) == one // 2
    unet, (x, times, told) = tiny.network("unet"), demand._given(tiny, WORK, merged=False)
    _, middle, *skips = whole(unet, x, times, told)  # type: ignore[arg-type]
    assert one == 2 * sum(part.nbytes for part in (middle, *skips))
