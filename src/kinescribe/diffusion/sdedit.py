"""Sampling that starts from a clip instead of from noise (SDEdit; Meng et al., 2108.01073).

A path is cut or laid out below a noise level, the clip is mixed with noise to where the path begins, and any
sampler walks it from there::

    path = tail(plan("dpmpp_2m", schedule, steps=25), strength=0.6)
    for step in sample("dpmpp_2m", denoise, noised(path, clip, draws.initial()), path, noise=draws.step):
        ...

ModelScope's second stage has a path of its own: all its steps lie below its noise level, between whole
training steps, and its model is asked ``at_trained_levels``.
"""

import math
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from kinescribe.diffusion.samplers import known_sampler
from kinescribe.diffusion.schedule import CLEAN, Schedule
from kinescribe.diffusion.trajectory import Trajectory, chain
from kinescribe.errors import OptionError


def tail(path: Trajectory, strength: float) -> Trajectory:
    """The last ``strength`` in (0, 1] of the steps of ``path``, rounded down, as diffusers counts them.

    1 takes every step, which still keeps what signal the first level has. Raises ``OptionError`` where not one
    step would be left.
    """
    kept = int(len(path) * _checked(strength))
    if kept == 0:
        least = math.ceil(1000 / len(path)) / 1000
        raise OptionError(
            f"strength={strength}: {len(path)} steps leave none to take; "
            f"use strength {least} or more, or more steps"
        )
    first = len(path) - kept
    return Trajectory(times=path.times[first:], levels=path.levels[first:], landings=path.landings[first:])


def second_stage(
    sampler: str, schedule: Schedule, steps: int, *, strength: float = 0.6, consistent_start: bool = False
) -> Trajectory:
    """The path of ModelScope's second stage: exactly ``steps`` steps within the ``strength`` cleanest levels.

    Times are spread evenly (trailing) and asked rounded; solvers of whole steps leave the last one out.
    ``strength`` 0.6 begins at training step 599 of 1000, SR600's 0.7 at 699. The published start is scaled by
    the noise of the first level although it is mixed already, so the model sees it 3 % too small;
    ``consistent_start`` leaves that out.
    """
    grid = known_sampler(sampler).grid
    if grid == "distilled":
        raise OptionError(f"sampler={sampler}: the second stage is not distilled; use dpmpp_2m_sde or heun")
    spare = 1 if grid == "open" else 0
    total = _training_steps(schedule, strength, steps, spare)
    # counted in whole numbers: the reference adds up its stride, which makes one step too many at times
    times = [total - 1 - i * (total / (steps + spare)) for i in range(steps + spare)]
    levels = schedule.interpolated_levels(times)[:steps]
    path = chain([round(t) for t in times[:steps]], levels, CLEAN)
    return path if consistent_start else replace(path, start=levels[0].noise)


def inversion(schedule: Schedule, steps: int, *, strength: float) -> Trajectory:
    """The way up from a clean clip to the ``strength`` cleanest levels, for ``ddim`` (Song et al., section 4.3).

    It strides over whole training steps as SR600 does, in as many steps as its stride needs: 31 for 30 of
    strength 0.7.
    """
    total = _training_steps(schedule, strength, steps, spare=0)
    stride = total // steps
    times = range(0, total, stride)
    return Trajectory(
        times=tuple(float(t) for t in times),
        levels=tuple(schedule.level(t) for t in times),
        landings=tuple(schedule.level(min(t + stride, total - 1)) for t in times),
    )


def noised(
    path: Trajectory, clip: Float[Tensor, "b c f h w"], eps: Float[Tensor, "b c f h w"]
) -> Float[Tensor, "b c f h w"]:
    """Where ``path`` begins if it should lead back to ``clip``; ``eps`` is unit noise."""
    signal, noise = path.levels[0]
    return path.start * (signal * clip + noise * eps)


def _training_steps(schedule: Schedule, strength: float, steps: int, spare: int) -> int:
    """How many training steps lie within ``strength``, checked to be enough for ``steps`` and ``spare`` ones."""
    total = round(schedule.config.train_steps * _checked(strength))
    if not 1 <= steps <= total - spare:
        raise OptionError(
            f"steps={steps}: strength {strength} covers {total} training steps; "
            f"use a whole number from 1 to {total - spare}, or a higher strength"
        )
    return total


def _checked(strength: float) -> float:
    if not 0 < strength <= 1:
        raise OptionError(f"strength={strength}: use a number above 0, at most 1")
    return strength
