"""Which training steps a generation visits, and between which noise levels it moves.

Four families of samplers lay their steps out differently; the layouts, roundings included, are those of the
reference schedulers, so that a sampler named after one gives its numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from kinescribe.diffusion.schedule import CLEAN, Level, Schedule, Spacing, level_of_ratio
from kinescribe.errors import OptionError

Grid = Literal["strided", "open", "fractional", "distilled"]
"""strided: ddim. open: multistep solvers, whole steps, the last one left out. fractional: Euler and Heun,
times between two steps allowed. distilled: consistency models, a choice from the 50 steps they were trained
on."""

DISTILLED_STEPS = 50


class Leg(NamedTuple):
    """One step: the model is asked at ``now`` (time ``t``), then x is moved to ``to``."""

    now: Level
    to: Level
    t: float


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A planned generation of ``len(times)`` steps, noisiest first.

    ``levels[i]`` is where step i asks the model and ``landings[i]`` where it leaves x. They meet
    (``landings[i] == levels[i + 1]``) but for the reference loops that miscount their stride. The start is
    ``start`` times unit noise, or times a clip mixed with noise for the first level (``sdedit``).
    """

    times: tuple[float, ...]
    levels: tuple[Level, ...]
    landings: tuple[Level, ...]
    start: float = 1.0

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Leg]:
        return (Leg(*leg) for leg in zip(self.levels, self.landings, self.times, strict=True))


def chain(
    times: Sequence[float] | Sequence[int], levels: Sequence[Level], final: Level, start: float = 1.0
) -> Trajectory:
    """A trajectory whose every step lands where the next one begins, the last on ``final``."""
    return Trajectory(
        times=tuple(float(t) for t in times), levels=tuple(levels), landings=(*levels[1:], final), start=start
    )


def trajectory(schedule: Schedule, grid: Grid, steps: int, spacing: Spacing | None) -> Trajectory:
    """Exactly ``steps`` steps over ``schedule`` ("modelscope_strict" alone may make more).

    ``spacing`` None takes the schedule's, and that failing the habit of the ``grid``. Raises ``OptionError``
    for a number of steps outside 1..train_steps, or a spacing the grid does not know.
    """
    total = schedule.config.train_steps
    if not 1 <= steps <= total:
        raise OptionError(f"steps={steps}: use a whole number from 1 to {total}")
    chosen = spacing or schedule.config.spacing
    if grid == "distilled":
        return _distilled(schedule, steps)
    if grid == "strided":
        return _strided(schedule, steps, chosen or "leading")
    if grid == "open":
        return _open(schedule, steps, chosen or "linspace")
    return _fractional(schedule, steps, chosen or "linspace")


def _strided(schedule: Schedule, steps: int, spacing: Spacing) -> Trajectory:
    if spacing == "modelscope_strict":
        return _modelscope(schedule, steps)
    config = schedule.config
    total = config.train_steps
    if spacing == "leading":
        times = [i * (total // steps) + config.offset for i in reversed(range(steps))]
    elif spacing == "trailing":
        times = _trailing(schedule, steps)
    elif spacing == "linspace":
        times = [round(i * (total - 1) / max(steps - 1, 1)) for i in reversed(range(steps))]
        times[0] = total - 1
    else:
        raise OptionError(f"spacing={spacing}: ddim knows leading, trailing, linspace and modelscope_strict")
    times = _distinct(times, total)
    final = schedule.level(0) if config.final == "first" else CLEAN
    return chain(times, [schedule.level(t) for t in times], final)


def _modelscope(schedule: Schedule, steps: int) -> Trajectory:
    """The original loop: total // (total // steps) steps, rounded up, so more than asked at times."""
    total = schedule.config.train_steps
    stride = total // steps
    times = [min(1 + t, total - 1) for t in reversed(range(0, total, stride))]
    return Trajectory(
        times=tuple(float(t) for t in times),
        levels=tuple(schedule.level(t) for t in times),
        landings=tuple(schedule.level(max(t - stride, 0)) for t in times),
    )


def _open(schedule: Schedule, steps: int, spacing: Spacing) -> Trajectory:
    total = schedule.config.train_steps
    if spacing == "karras":
        ratios = _karras_ratios(schedule, steps)
        levels = [level_of_ratio(ratio) for ratio in ratios]
        return chain([round(schedule.time_of(level)) for level in levels], levels, CLEAN)
    if spacing == "linspace":
        times = [round(i * ((total - 1) / steps)) for i in range(steps, 0, -1)]
    elif spacing == "leading":
        times = [i * (total // (steps + 1)) + schedule.config.offset for i in range(steps, 0, -1)]
    elif spacing == "trailing":
        times = _trailing(schedule, steps)
    else:
        raise OptionError(f"spacing={spacing}: this sampler knows leading, trailing, linspace and karras")
    times = _distinct(times, total)
    return chain(times, [schedule.finite_level(float(t)) for t in times], CLEAN)


def _fractional(schedule: Schedule, steps: int, spacing: Spacing) -> Trajectory:
    total = schedule.config.train_steps
    times: list[float]
    if spacing == "karras":
        levels = [level_of_ratio(ratio) for ratio in _karras_ratios(schedule, steps)]
        times = [float32_of(schedule.time_of(level)) for level in levels]
        return chain(times, levels, CLEAN, start=levels[0].noise)
    if spacing == "linspace":
        gaps = max(steps - 1, 1)
        times = [float32_of(i * ((total - 1) / gaps)) for i in range(gaps, gaps - steps, -1)]
    elif spacing == "leading":
        whole = [i * (total // steps) + schedule.config.offset for i in reversed(range(steps))]
        times = [float(t) for t in _distinct(whole, total)]
    elif spacing == "trailing":
        times = [float(t) for t in _trailing(schedule, steps)]
    else:
        raise OptionError(f"spacing={spacing}: this sampler knows leading, trailing, linspace and karras")
    levels = [schedule.finite_level(t) for t in times]
    # the references start from noise * ratio, or from noise * hypot(ratio, 1) when the spacing leads
    return chain(times, levels, CLEAN, start=1.0 if spacing == "leading" else levels[0].noise)


def _distilled(schedule: Schedule, steps: int) -> Trajectory:
    if steps > DISTILLED_STEPS:
        raise OptionError(f"steps={steps}: lcm takes 1 to {DISTILLED_STEPS} steps, 4 to 8 are usual")
    stride = schedule.config.train_steps // DISTILLED_STEPS
    trained = [i * stride - 1 for i in range(DISTILLED_STEPS, 0, -1)]
    times = [trained[int(i * DISTILLED_STEPS / steps)] for i in range(steps)]
    return chain(times, [schedule.level(t) for t in times], CLEAN)


def _trailing(schedule: Schedule, steps: int) -> list[int]:
    total, shift = schedule.config.train_steps, schedule.config.shift
    if steps * shift > total:  # there are not so many at high noise
        shift = 1.0
    even = [total - i * (total / steps) for i in range(steps)]
    return [round(shift * t / (1 + (shift - 1) * t / total)) - 1 for t in even]


def _distinct(times: list[int], total: int) -> list[int]:
    """``times``, or the highest distinct ones where so many were asked that they collide or overflow."""
    if times[0] < total and len(set(times)) == len(times):
        return times
    return list(range(total - 1, total - 1 - len(times), -1))


def _karras_ratios(schedule: Schedule, steps: int) -> list[float]:
    """Evenly spaced in ratio^(1/7) over the whole schedule (Karras et al., 2206.00364, equation 5)."""
    low, high = (bound ** (1 / 7) for bound in schedule.ratio_range())
    return [(high + i / max(steps - 1, 1) * (low - high)) ** 7 for i in range(steps)]


def float32_of(value: float) -> float:
    """``value`` rounded to float32, as the references hold their times and ratios."""
    return torch.tensor(value, dtype=torch.float32).item()
