"""Seconds are operations over speed, and the weights' way to the device where they wait elsewhere."""

import pytest

from kinescribe.perf.calibration import SHARE_OF_MATRIX_SPEED
from kinescribe.perf.cost import Cost, costs
from kinescribe.perf.outline import Outline
from kinescribe.perf.plan import Plan
from kinescribe.perf.speed import Speeds
from perf_requests import request, rung_named

WORK = request(4, 64, 64)
FAST = Speeds(matrix=1e9, copy=1e30, link=None)


def found(model: Outline, speeds: Speeds | None, rung: str = "roomy", kind: str = "cuda") -> dict[str, Cost]:
    plan = Plan(rung=rung_named(rung), pixels=1, stages=(), why="")
    return {cost.name: cost for cost in costs(model, WORK, plan, kind, speeds)}


def test_seconds_are_operations_over_speed(tiny: Outline) -> None:
    for cost in found(tiny, FAST).values():
        assert cost.flops > 0
        assert cost.seconds == pytest.approx(cost.flops / (1e9 * SHARE_OF_MATRIX_SPEED["cuda"]), rel=1e-6)


def test_every_pass_and_every_frame_counts(tiny: Outline) -> None:
    from kinescribe.perf import demand

    cost = found(tiny, FAST)
    assert cost["denoising"].flops == 25 * demand.denoising_in_whole(tiny, WORK, merged=True).flops
    assert cost["decoding"].flops == 4 * demand.decoding(tiny, WORK, 1).flops


def test_without_a_speed_there_are_no_seconds(tiny: Outline) -> None:
    assert {cost.seconds for cost in found(tiny, None).values()} == {None}


def test_weights_on_their_way_take_time(tiny: Outline) -> None:
    slow = Speeds(matrix=1e30, copy=1e30, link=1e6)
    way = tiny.bytes("unet") / 1e6
    assert found(tiny, slow, "towers-out")["denoising"].seconds == pytest.approx(0, abs=1e-6)
    assert found(tiny, slow, "by-stage")["denoising"].seconds == pytest.approx(way)
    assert found(tiny, slow, "by-block")["denoising"].seconds == pytest.approx(
        50 * way
    )  # two branches in 25 passes
