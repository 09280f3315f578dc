"""A request is refused with the largest that would fit, and that one does."""

import re
from dataclasses import replace

import pytest

from kinescribe.errors import MemoryLimitError
from kinescribe.perf.calibration import CONTEXT
from kinescribe.perf.demand import Work
from kinescribe.perf.fit import choose, is_roomy, largest_frames, largest_size, within
from kinescribe.perf.outline import Outline
from kinescribe.perf.plan import RUNGS, Device, Plan, Rung, Stage, ladder, need, planned
from perf_requests import request

WORK = request(24, 128, 96)


def simple(_model: Outline, work: Work, _device: Device, rung: Rung) -> Plan:
    """In the place of counting: a byte for each pixel of the window."""
    peak = work.window * work.width * work.height
    return Plan(rung=rung, pixels=1, stages=(Stage(name="denoising", weights=peak, peak=peak),), why="")


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plan", "fit"):
        monkeypatch.setattr(f"kinescribe.perf.{module}.planned", simple)


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("frames", [24, 30])
def test_a_refusal_names_the_largest_that_fits(tiny: Outline, frames: int) -> None:
    option = "--frames" if frames == 24 else "--window"  # of a long clip a part is worked on
    device = Device(kind="cpu", free=8 * 128 * 96)
    with pytest.raises(MemoryLimitError, match="at least for 24 frames of 128x96 and .* are free") as caught:
        choose(tiny, replace(WORK, frames=frames), device, "auto")
    assert caught.value.exit_code == 4
    assert f"{option} 8 or --size 72x56 would fit" in str(caught.value)
    smaller = replace(WORK, width=72, height=56)
    for work in (smaller, replace(WORK, frames=8, window=8)):
        assert choose(tiny, work, device, "auto")
        with pytest.raises(MemoryLimitError):
            choose(tiny, work, Device(kind="cpu", free=device.free // 2), "auto")


@pytest.mark.slow
def test_what_a_refusal_names_does_fit_as_it_is_counted(tiny: Outline) -> None:
    last = ladder(tiny, WORK, Device(kind="cpu", free=0))[-1]
    third = planned(tiny, replace(WORK, frames=8, window=8), Device(kind="cpu", free=0), last)
    device = Device(kind="cpu", free=need(third) + 1)
    with pytest.raises(MemoryLimitError) as caught:
        choose(tiny, WORK, device, "auto")
    found = re.search(r"(?:--frames (\d+) or )?--size (\d+)x(\d+) would fit", str(caught.value))
    assert found
    assert choose(tiny, replace(WORK, width=int(found[2]), height=int(found[3])), device, "auto")
    if found[1]:
        assert choose(tiny, replace(WORK, frames=int(found[1]), window=int(found[1])), device, "auto")


@pytest.mark.usefixtures("uncounted")
def test_where_no_size_fits_that_is_said(tiny: Outline) -> None:
    nothing = Device(kind="cpu", free=10)
    assert largest_frames(tiny, WORK, nothing) is None and largest_size(tiny, WORK, nothing) is None
    with pytest.raises(MemoryLimitError, match="no size of this model would fit"):
        choose(tiny, WORK, nothing, "auto")


@pytest.mark.usefixtures("uncounted")
def test_what_is_asked_for_by_name_is_taken(tiny: Outline) -> None:
    gpu = Device(kind="cuda", free=10**12)
    assert choose(tiny, WORK, gpu, "auto").rung == RUNGS[0]
    assert choose(tiny, WORK, gpu, "low").rung == RUNGS[-1]
    assert choose(tiny, WORK, Device(kind="cuda", free=0), "roomy").rung == RUNGS[0]
    with pytest.raises(MemoryLimitError):
        choose(tiny, WORK, Device(kind="cuda", free=0), "low")


@pytest.mark.usefixtures("uncounted")
def test_a_number_is_what_the_whole_card_has(tiny: Outline) -> None:
    gpu = Device(kind="cuda", free=10**12)
    assert within(gpu, 8 * 10**9).free == 8 * 10**9 - CONTEXT
    assert within(gpu, 10**13).free == 10**12
    assert within(Device(kind="cpu", free=10**12), 10**9).free == 10**9
    with pytest.raises(MemoryLimitError):
        choose(tiny, WORK, gpu, CONTEXT)


@pytest.mark.usefixtures("uncounted")
def test_several_clips_are_made_together_where_none_of_them_is_slowed(tiny: Outline) -> None:
    much, little = (Device(kind="cpu", free=free) for free in (10**12, 1000))
    assert is_roomy(tiny, WORK, much, "auto")
    assert is_roomy(tiny, WORK, little, "roomy")
    assert not is_roomy(tiny, WORK, much, "low")
    assert not is_roomy(tiny, WORK, little, "auto")
