"""From settings to a plan: what of a request counts, several clips at once, the note of a slow processor, refusals."""

import warnings
from dataclasses import replace

import pytest
import torch

from conftest import tiny_components
from goldens import folder
from kinescribe.catalog import CATALOG
from kinescribe.components import Components
from kinescribe.errors import KinescribeWarning, MemoryLimitError, OptionError
from kinescribe.options import image_to_video, text_to_video, video_to_video
from kinescribe.perf.outline import loaded
from kinescribe.perf.plan import RUNGS, Device, Plan, quick
from kinescribe.pipelines import planning
from kinescribe.pipelines.planning import forecast, prepare, work_of
from kinescribe.pipelines.settings import Settings, resolve, resolve_clip, resolve_picture
from kinescribe.pipelines.text_to_video import TextToVideoPipeline

T2V, V2V, I2V = (CATALOG[name] for name in ("modelscope-1.7b", "modelscope-video-to-video", "i2vgen-xl"))


@pytest.fixture
def job(components: Components) -> Settings:
    return resolve(text_to_video(prompt="a boat", seed=1), components.spec)


def test_a_clip_from_text_is_one_window() -> None:
    work = work_of(resolve(text_to_video(prompt="a boat", steps=7, frames=9), T2V), T2V, clips=3)
    assert (work.frames, work.window, work.width, work.height, work.clips) == (9, 9, 256, 256, 3)
    assert (work.passes, work.encoded, work.guided) == (7, 0, True)
    off = resolve(text_to_video(prompt="a boat", guidance=1.0, sampler="heun", steps=5), T2V)
    assert not work_of(off, T2V).guided and work_of(off, T2V).passes == 10


def test_a_picture_is_encoded_where_the_clip_begins_with_it() -> None:
    assert work_of(resolve_picture(image_to_video(), I2V), I2V).encoded == 1
    other = CATALOG["modelscope-image-to-video"]
    assert work_of(resolve_picture(image_to_video(), other), other).encoded == 0


def test_a_long_clip_goes_through_in_windows_at_the_models_size() -> None:
    job = resolve_clip(video_to_video(steps=10), V2V, frames=56, size=(640, 360), fps=8.0)
    work = work_of(job, V2V)
    assert (work.frames, work.window, work.encoded) == (56, 32, 56)
    assert work.passes == 2 * 10  # 56 frames are two windows of 32 that share 8
    assert (work.width, work.height) == (1280, 720)
    part = resolve_clip(video_to_video(steps=10, strength=0.6), T2V, frames=8, size=(250, 120), fps=8.0)
    assert work_of(part, T2V).passes == 6
    assert (work_of(part, T2V).width, work_of(part, T2V).height) == (248, 120)


def test_the_way_up_counts_as_one_branch() -> None:
    sr600 = next(
        spec for spec in CATALOG.values() if spec.refinement is not None and spec.refinement.inversion
    )
    asked = {"frames": 8, "size": (640, 360), "fps": 8.0}
    guided = work_of(resolve_clip(video_to_video(steps=10, guidance=7.0), sr600, **asked), sr600)
    alone = work_of(resolve_clip(video_to_video(steps=10, guidance=1.0), sr600, **asked), sr600)
    assert (guided.passes, alone.passes) == (10 + 5, 10 + 10)


def rung(components: Components) -> str:
    placement = components.placement
    assert placement is not None
    return placement.plan.rung.name  # type: ignore[attr-defined]


def test_what_fits_is_planned_in_silence(components: Components, job: Settings) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(components, [work_of(job, components.spec)])
    assert rung(components) == "roomy"


def test_what_costs_speed_is_said_with_its_reason(components: Components, job: Settings) -> None:
    components.memory = "low"
    with pytest.warns(KinescribeWarning, match=r"memory: .* \(branches-apart: asked for\)"):
        prepare(components, [work_of(job, components.spec)])
    assert rung(components) == "branches-apart"


def test_a_plan_is_made_for_each_request(components: Components) -> None:
    pipe = TextToVideoPipeline(components)
    components.memory = "low"
    with pytest.warns(KinescribeWarning, match="branches-apart"):
        pipe("a boat", seed=1)
    components.memory = "auto"
    pipe("a boat", seed=1)
    assert rung(components) == "roomy"


def test_a_refusal_comes_before_anything_is_sampled(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    components.memory = 10_000
    monkeypatch.setattr(components.unet, "forward", lambda *_: pytest.fail("sampled"))
    with pytest.raises(MemoryLimitError, match="tiny needs .* at least for 3 frames of 32x24"):
        TextToVideoPipeline(components).stream("a boat", seed=1)


def test_fewer_clips_at_once_come_before_a_lower_rung(
    components: Components, job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "is_roomy", lambda _model, work, *_: work.clips <= 2)
    works = [work_of(job, components.spec, clips=clips) for clips in (4, 2, 1)]
    assert prepare(components, works).clips == 2
    monkeypatch.setattr(planning, "is_roomy", lambda *_: False)
    assert prepare(components, works).clips == 1


def test_a_list_that_is_split_gives_the_same_clips(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, prompts = TextToVideoPipeline(components), ["a boat", "the rises", "a boat of two"]
    together = pipe(prompts, seed=1)
    monkeypatch.setattr(planning, "is_roomy", lambda *_: False)
    alone = pipe(prompts, seed=1)
    for one, other in zip(together, alone, strict=True):
        assert abs(one.frames.astype(int) - other.frames).max() <= 1


def test_a_small_model_on_a_processor_is_no_matter(components: Components, job: Settings) -> None:
    work = work_of(job, components.spec)
    model, plan = planning.loaded(components), Plan(rung=RUNGS[0], pixels=1, stages=(), why="")
    assert planning.slow_note(components, model, work, plan) is None


def test_minutes_follow_the_request(
    components: Components, job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinescribe.perf.speed import Speeds

    monkeypatch.setattr(planning, "LARGE", 1)
    model, plan = planning.loaded(components), Plan(rung=RUNGS[0], pixels=1, stages=(), why="")
    monkeypatch.setattr(planning, "speeds", lambda *_: Speeds(matrix=2e5, copy=1e30, link=None))

    def minutes(steps: int) -> int:
        work = work_of(replace(job, steps=steps), components.spec)
        note = planning.slow_note(components, model, work, plan)
        assert note is not None
        return int(note.split("about ")[1].split()[0])

    assert minutes(400) == pytest.approx(4 * minutes(100), rel=0.1)
    assert minutes(100) > 10


def test_a_forecast_needs_no_weights_and_with_a_number_no_gpu() -> None:
    job = resolve(text_to_video(prompt="a boat", frames=2, width=64, height=64, steps=2), T2V)
    found = forecast("modelscope-1.7b", job, device="cuda", dtype="auto", memory=3 * 10**9)
    assert found.plan.rung.name in ("by-stage", "by-block")
    assert found.model.dtype == torch.float16 and found.seconds is None
    assert found.needed <= found.device.free < 3 * 10**9
    assert [cost.name for cost in found.costs] == [stage.name for stage in found.plan.stages]


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_gpu_that_is_not_here_has_no_free_memory() -> None:
    job = resolve(text_to_video(prompt="a boat"), T2V)
    with pytest.raises(OptionError, match="not on this machine"):
        forecast("modelscope-1.7b", job, device="cuda", dtype="auto", memory="auto")


def test_a_folder_is_planned_as_it_is_loaded() -> None:
    path = str(folder("text_to_video/diffusers"))
    spec = planning.spec_named(path)
    job = resolve(text_to_video(prompt="a boat", frames=2, width=64, height=64, steps=2), spec)
    found = forecast(path, job, device="cpu", dtype="float32", memory="auto")
    assert found.plan.rung.name == "roomy" and found.seconds is not None
    assert found.plan.stages[0].weights == sum(map(found.model.bytes, found.model.parts))


def test_weights_that_are_there_already_count_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    components = tiny_components()
    held = sum(p.nbytes for network in components.networks for p in network.parameters())
    monkeypatch.setattr(planning, "free_on", lambda _: 1000)
    assert planning.device_of(components) == Device(kind="cpu", free=1000 + held)
    monkeypatch.setattr(planning, "free_on", lambda _: None)
    assert planning.device_of(components).free >= planning.UNKNOWN


def test_weights_that_are_there_count_for_the_largest_of_several_requests(
    monkeypatch: pytest.MonkeyPatch, components: Components, job: Settings
) -> None:
    """What is free suffices for one clip without them, and for two only with them."""
    one, two = (work_of(job, components.spec, clips=count) for count in (1, 2))
    model, device = loaded(components), planning.device_of(components)
    held = sum(weight.nbytes for network in components.networks for weight in network.parameters())
    least = next(
        free
        for free in range(held, 1 << 34, 1 << 14)
        if quick(model, one, replace(device, free=free)) is not None
    )
    monkeypatch.setattr(planning, "free_on", lambda _: least)
    monkeypatch.setattr(planning, "quick", lambda *_: None if _[1] is two else quick(*_))
    seen: list[int] = []
    monkeypatch.setattr(planning, "is_roomy", lambda _m, _w, there, _b: seen.append(there.free) or True)
    assert prepare(components, [two, one]) is two and seen == [least + held]


def test_a_preset_is_part_of_the_work() -> None:
    job = resolve_clip(video_to_video(preset="reuse"), V2V, frames=56, size=(640, 360), fps=8.0)
    assert (work_of(job, V2V).kept, work_of(job, V2V).eight_bits) == (2, False)
    both = resolve(text_to_video(prompt="a boat", preset="reuse+fast8"), T2V)
    assert (work_of(both, T2V).kept, work_of(both, T2V).eight_bits) == (1, True)
    exact = resolve(text_to_video(prompt="a boat", preset="exact"), T2V)
    assert (exact.preset, work_of(exact, T2V).kept, work_of(exact, T2V).eight_bits) == (None, 0, False)
