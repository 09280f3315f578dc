"""How long each stage of a plan takes: what was counted over the speed of the device."""

from dataclasses import dataclass

from kinescribe.perf import demand
from kinescribe.perf.calibration import SHARE_OF_MATRIX_SPEED
from kinescribe.perf.count import Count
from kinescribe.perf.demand import StageName, Work
from kinescribe.perf.outline import Outline
from kinescribe.perf.plan import Plan, networks_at
from kinescribe.perf.speed import Speeds


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Operations of a stage's products, and its seconds where the device's speed is known."""

    name: StageName
    flops: int
    seconds: float | None


def costs(model: Outline, work: Work, plan: Plan, kind: str, speeds: Speeds | None) -> tuple[Cost, ...]:
    """What each stage costs on a device of that kind."""
    found = []
    for name in work.stages(model):
        count = demand.whole(name, model, work, merged=plan.rung.merged and work.guided)
        seconds = None if speeds is None else _seconds(count, kind, speeds)
        if seconds is not None and speeds is not None and speeds.link is not None:
            seconds = _with_transfers(seconds, name, model, work, plan, speeds.link)
        found.append(Cost(name=name, flops=count.flops, seconds=seconds))
    return tuple(found)


def _seconds(count: Count, kind: str, speeds: Speeds) -> float:
    return count.flops / (speeds.matrix * SHARE_OF_MATRIX_SPEED[kind]) + count.moved / speeds.copy


def _with_transfers(
    seconds: float, name: StageName, model: Outline, work: Work, plan: Plan, link: float
) -> float:
    """With the weights' way to the device: before the stage, or block by block beside the computing."""
    way = sum(model.bytes(part) for part in networks_at(name, model.parts, plan.rung)) / link
    if plan.rung.residence == "at work" or (plan.rung.residence == "by block" and name != "denoising"):
        return seconds + way
    if plan.rung.residence == "by block":
        branches = 2 if work.guided and not plan.rung.merged else 1
        return max(seconds, way * work.passes * branches)
    return seconds
