"""Which rung is taken at which free memory, and that no bound is below what is counted."""

from dataclasses import replace

import pytest

from interpreted import needs_triton
from kinescribe.ops.slices import PIXELS, ROWS, WHOLE
from kinescribe.perf import demand
from kinescribe.perf.calibration import CONTEXT, KEPT_UNITS, SMALL_THINGS, UNET_UNITS, VAE_UNITS
from kinescribe.perf.demand import Work
from kinescribe.perf.outline import Outline
from kinescribe.perf.plan import RUNGS, Device, first_fitting, ladder, need, planned, plans, quick
from perf_requests import full_size, request, rung_named

GB = 10**9


def gpu(free: int) -> Device:
    return Device(kind="cuda", free=free)


def taken(model: Outline, work: Work, device: Device) -> str:
    plan = quick(model, work, device) or first_fitting(model, work, device)
    return plan.rung.name if plan else "none"


SMALL = request(16, 256, 256)
WIDE = request(24, 576, 320)
PUBLISHED = [
    ("modelscope-1.7b", SMALL),
    ("zeroscope-v2-576w", WIDE),
    ("i2vgen-xl", request(16, 1280, 704, encoded=1)),
    ("modelscope-video-to-video", request(32, 1280, 720, encoded=32)),
]


def names(model: Outline, work: Work, device: Device) -> list[str]:
    return [rung.name for rung in ladder(model, work, device)]


@pytest.mark.parametrize(
    ("gigabytes", "rung"),
    [(80, "roomy"), (6, "roomy"), (4.6, "towers-out"), (4, "by-stage"), (3, "by-block"), (1, "none")],
)
def test_the_rung_follows_the_memory(large: Outline, gigabytes: float, rung: str) -> None:
    assert taken(large, SMALL, gpu(int(gigabytes * GB - CONTEXT))) == rung


def test_every_rung_needs_no_more_than_the_one_above(large: Outline) -> None:
    needs = [need(plan) for plan in plans(large, WIDE, gpu(4 * GB))]
    assert needs == sorted(needs, reverse=True)
    assert len(needs) == len(RUNGS) and needs[-1] < 0.6 * needs[0]


def test_a_large_clip_is_sliced_only_where_memory_is_not_ample(large: Outline) -> None:
    whole, sliced, *_ = (need(plan) for plan in plans(large, WIDE, gpu(80 * GB)))
    assert sliced < whole
    assert [taken(large, WIDE, gpu(free)) for free in (80 * GB, whole, whole - 1, sliced)] == [
        "roomy", "roomy", "sliced", "sliced",
    ]  # fmt: skip
    plan = first_fitting(large, WIDE, gpu(whole - 1))
    assert plan is not None and "; roomy would need" in plan.why


@pytest.mark.parametrize(("frames", "sliced"), [(64, False), (65, True)])
def test_slices_as_large_as_the_clip_are_no_rung(tiny: Outline, frames: int, *, sliced: bool) -> None:
    side = 8 * tiny.vae.factor
    work = request(frames, 2 * side, 4 * side)  # 64 frames of both branches are one slice
    whole, in_parts = (demand.denoising(tiny, work, merged=True, rows=rows).peak for rows in (WHOLE, ROWS))
    assert (in_parts != whole) == sliced
    assert ("sliced" in names(tiny, work, gpu(GB))) == sliced


def test_much_memory_is_known_to_suffice_without_counting(
    large: Outline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "counted", lambda *_: pytest.fail("counted"))
    plan = quick(large, SMALL, gpu(80 * GB))
    assert plan is not None and plan.rung == RUNGS[0] and plan.pixels == PIXELS and not plan.stages
    assert quick(large, SMALL, gpu(4 * GB)) is None


def test_the_reason_names_both_sides_and_the_rung_above(large: Outline) -> None:
    plan = first_fitting(large, SMALL, gpu(4 * GB - CONTEXT))
    assert plan is not None and "needed, 3.5 GB free; branches-apart would need" in plan.why


def test_the_autoencoder_takes_as_many_frames_as_there_is_room_for(large: Outline) -> None:
    frame = 256 * 256
    assert planned(large, SMALL, gpu(80 * GB), RUNGS[0]).pixels == 16 * frame
    assert frame < planned(large, SMALL, gpu(5 * GB), RUNGS[0]).pixels < 16 * frame
    assert planned(large, SMALL, gpu(1 * GB), RUNGS[0]).pixels == frame


def test_without_guidance_there_is_one_branch(large: Outline) -> None:
    alone = planned(large, replace(SMALL, guided=False), gpu(80 * GB), RUNGS[0])
    apart = planned(large, SMALL, gpu(80 * GB), rung_named("branches-apart"))
    merged = planned(large, SMALL, gpu(80 * GB), RUNGS[0])
    peaks = [
        next(s.peak - s.weights for s in plan.stages if s.name == "denoising")
        for plan in (alone, apart, merged)
    ]
    assert peaks[0] == peaks[1] < peaks[2]


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_a_processor_slices_large_clips_and_has_no_other_place_for_weights(large: Outline, kind: str) -> None:
    device = Device(kind=kind, free=GB)
    assert names(large, SMALL, device) == ["roomy", "branches-apart"]
    assert names(large, WIDE, device) == ["sliced", "branches-apart", "small-slices"]
    assert {rung.residence for rung in ladder(large, WIDE, device)} == {"always"}


def test_stages_hold_the_networks_that_work(large: Outline) -> None:
    by_stage = planned(large, replace(SMALL, encoded=16), gpu(8 * GB), rung_named("by-stage"))
    assert [(stage.name, stage.weights) for stage in by_stage.stages] == [
        ("reading the prompt", large.bytes("text")),
        ("encoding", large.bytes("vae")),
        ("denoising", large.bytes("unet")),
        ("decoding", large.bytes("vae")),
    ]


@pytest.mark.parametrize("guided", [True, False])
def test_bounds_are_above_what_is_counted(large: Outline, tiny: Outline, *, guided: bool) -> None:
    for model, frames, width, height in ((large, 16, 256, 256), (tiny, 3, 64, 48)):
        work = request(frames, width, height, guided=guided)
        count = demand.denoising(model, work, merged=guided, rows=WHOLE)
        b, _, f, y, x = work.latents(model)
        unit = b * f * y * x * model.unet.width * model.dtype.itemsize * (2 if guided else 1)
        assert count.peak < UNET_UNITS * unit + SMALL_THINGS
        pixels = width * height * model.vae.width * model.dtype_of("vae").itemsize
        assert demand.decoding(model, work, 1).peak < VAE_UNITS * pixels + SMALL_THINGS
        assert demand.encoding(model, work, 1).peak < VAE_UNITS * pixels + SMALL_THINGS


@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize(("frames", "width", "height"), [(3, 64, 48), (1024, 1280, 720)])
def test_nothing_goes_uncounted_that_would_not_fit(
    large: Outline, frames: int, width: int, height: int, *, eight_bits: bool
) -> None:
    work = request(frames, width, height, guided=False, encoded=frames)
    work = replace(
        work, window=min(frames, 8), eight_bits=eight_bits
    )  # beside it the sampler keeps all frames
    needed = need(planned(large, work, gpu(80 * GB), RUNGS[0]))
    assert quick(large, work, gpu(needed - 1)) is None


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "work", "measured"),
    # benchmarks/results/2026-11-22_h200_large.json, less the weights that were there
    [(*PUBLISHED[2], 4.61e9), (*PUBLISHED[3], 9.33e9)],
)
def test_a_step_of_a_large_clip_needs_what_an_h200_took(name: str, work: Work, measured: float) -> None:
    device = Device(kind="cuda", free=80 * GB, capability=(9, 0))
    stage = next(s for s in planned(full_size(name), work, device, RUNGS[0]).stages if s.name == "denoising")
    assert stage.peak - stage.weights == pytest.approx(measured, rel=0.05)


@needs_triton
def test_what_kernels_spare_is_not_counted(large: Outline) -> None:
    plain, older, newer = (
        planned(large, WIDE, replace(gpu(80 * GB), capability=capability), RUNGS[0]).peak
        for capability in (None, (8, 0), (9, 0))
    )
    assert newer < older < plain


@pytest.mark.slow
@pytest.mark.parametrize(("name", "work"), PUBLISHED)
@pytest.mark.parametrize("guided", [True, False])
def test_a_published_request_in_one_piece_is_below_the_bound_and_not_far(
    name: str, work: Work, *, guided: bool
) -> None:
    model, work = full_size(name), replace(work, guided=guided)
    needed = need(planned(model, work, gpu(80 * GB), RUNGS[0]))
    assert quick(model, work, gpu(needed - 1)) is None
    plan = quick(model, work, gpu(int(1.5 * needed)))
    assert plan is not None and plan.rung == RUNGS[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "work", "gigabytes"),
    [(*asked, card) for asked, card in zip(PUBLISHED, (4, 6, 10, 8), strict=True)],
)
def test_published_models_fit_the_cards_that_they_are_meant_to(name: str, work: Work, gigabytes: int) -> None:
    plan = first_fitting(full_size(name), work, gpu(int(gigabytes * GB - CONTEXT)))
    assert plan is not None and plan.rung.name != "by-block"


def test_large_clips_need_less_in_smaller_slices(tiny: Outline) -> None:
    work = request(32, 128, 128, guided=False)
    usual = demand.denoising(tiny, work, merged=False, rows=ROWS).peak
    assert demand.denoising(tiny, work, merged=False, rows=1 << 10).peak < 0.8 * usual


def test_presets_are_counted_beside_the_rest(tiny: Outline, large: Outline) -> None:
    for model, work in ((tiny, request(3, 64, 48)), (large, SMALL)):
        kept, both = replace(work, kept=2), replace(work, kept=2, eight_bits=True)
        plain, more, most = (planned(model, each, gpu(80 * GB), RUNGS[0]) for each in (work, kept, both))
        denoised = [
            next(s.peak for s in plan.stages if s.name == "denoising") for plan in (plain, more, most)
        ]
        assert denoised[1] == denoised[0] + demand.kept_bytes(model, kept)
        copies = demand.copy_bytes(model, gpu(GB).capability)
        assert denoised[2] == denoised[1] + copies
        b, _, f, y, x = work.latents(model)
        unit = 2 * b * f * y * x * model.unet.width * model.dtype.itemsize
        assert 0 < demand.kept_bytes(model, kept) <= 2 * KEPT_UNITS * unit
        assert 0 < copies <= model.bytes("unet") // model.dtype.itemsize
    assert demand.copy_bytes(large, (8, 9)) < demand.copy_bytes(large, (9, 0))


def test_weights_that_are_read_otherwise_do_not_come_by_block(large: Outline) -> None:
    rungs = ladder(large, WIDE, replace(gpu(GB), by_block=False))
    assert rungs == RUNGS[:-1] and RUNGS[-1].residence == "by block"
