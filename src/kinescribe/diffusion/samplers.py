"""Samplers: generators from noise to a clip, over any denoiser and any planned trajectory.

Coefficients are float64 numbers, the clip keeps its own dtype (float32 in the pipelines). In the pair
parametrisation Euler's method is DDIM, ancestral Euler is DDIM with eta 1, and DPM-Solver++(2M) is DDIM with
the clean estimate extrapolated along the log-SNR; nothing but their grids sets them apart.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from kinescribe.diffusion.denoiser import Denoise
from kinescribe.diffusion.schedule import Level, Schedule, Spacing
from kinescribe.diffusion.trajectory import Grid, Trajectory, trajectory
from kinescribe.errors import OptionError

StepNoise = Callable[[int], Tensor]
"""``noise(index)``: unit noise like x for the step of that index; asked in order, only where it is used."""


class Step(NamedTuple):
    """What a sampler yields after a step: ``x`` as it stands and the ``clean`` estimate it was moved by."""

    x: Tensor
    clean: Tensor


Run = Callable[[Denoise, Tensor, Trajectory, StepNoise, float], Iterator[Step]]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One entry of the table: a loop, the grid it walks, its eta when the caller leaves it open."""

    run: Run
    grid: Grid
    eta: float


def plan(sampler: str, schedule: Schedule, steps: int, spacing: Spacing | None = None) -> Trajectory:
    """The trajectory of ``steps`` steps for ``sampler``; start it with ``trajectory.start * noise``."""
    return trajectory(schedule, known_sampler(sampler).grid, steps, spacing)


def sample(
    sampler: str,
    denoise: Denoise,
    x: Float[Tensor, "b c f h w"],
    path: Trajectory,
    *,
    noise: StepNoise,
    eta: float | None = None,
) -> Iterator[Step]:
    """Run a sampler by name, one ``Step`` after each of ``len(path)`` steps; the last ``x`` is the clip.

    ``eta`` scales the fresh noise of ``ddim`` (0 none, 1 as much as ancestral sampling); the others have
    their own amount and refuse a different one with ``OptionError``.
    """
    entry = known_sampler(sampler)
    if eta is not None and eta != entry.eta and sampler != "ddim":
        raise OptionError(f"eta={eta}: only ddim takes an eta, {sampler} has its own; leave it out")
    return entry.run(denoise, x, path, noise, entry.eta if eta is None else eta)


def known_sampler(sampler: str) -> Sampler:
    """The entry of that name; raises ``OptionError`` that lists the names there are."""
    if sampler not in SAMPLERS:
        raise OptionError(f"sampler={sampler!r}: use one of {', '.join(SAMPLERS)}")
    return SAMPLERS[sampler]


def ddim(denoise: Denoise, x: Tensor, path: Trajectory, noise: StepNoise, eta: float) -> Iterator[Step]:
    """Denoising diffusion implicit models (Song et al., 2010.02502), equations 12 and 16."""
    for index, (now, to, t) in enumerate(path):
        clean = denoise(x, now, t)
        fresh = eta * _ancestral_noise(now, to)
        kept = math.sqrt(max(to.noise**2 - fresh**2, 0.0))
        x = to.signal * clean + (kept / now.noise) * (x - now.signal * clean)
        if fresh > 0:
            x = x + fresh * noise(index)
        yield Step(x, clean)


def dpmpp_2m(denoise: Denoise, x: Tensor, path: Trajectory, noise: StepNoise, eta: float) -> Iterator[Step]:
    """DPM-Solver++(2M), midpoint (Lu et al., 2211.01095); with ``eta`` 1 its stochastic form, section 4."""
    before: Step | None = None
    width_before = 0.0
    for index, (now, to, t) in enumerate(path):
        clean = denoise(x, now, t)
        width = to.log_snr - now.log_snr
        ahead = clean
        if before is not None and math.isfinite(width):
            ahead = clean + (0.5 * width / width_before) * (clean - before.clean)
        shrink = math.exp(-eta * width) if eta > 0 else 1.0
        gain = to.signal * (1.0 - (to.ratio / now.ratio) * shrink) if now.signal > 0 else to.signal
        x = (to.noise / now.noise * shrink) * x + gain * ahead
        fresh = to.noise * math.sqrt(1.0 - shrink**2)
        if fresh > 0:
            x = x + fresh * noise(index)
        before, width_before = Step(x, clean), width
        yield before


def heun(denoise: Denoise, x: Tensor, path: Trajectory, _noise: StepNoise, _eta: float) -> Iterator[Step]:
    """Heun's method in noise / signal (Karras et al., 2206.00364, algorithm 2, no churn): two calls a step.

    The last step, and a first one from pure noise, are Euler's: there the second slope would divide by zero.
    """
    legs = list(path)
    for index, (now, to, t) in enumerate(legs):
        clean = denoise(x, now, t)
        slope = (x - now.signal * clean) / now.noise
        there = to.signal * clean + to.noise * slope
        if index + 1 < len(legs) and now.signal > 0:
            clean_there = denoise(there, to, legs[index + 1].t)
            slope_there = (there - to.signal * clean_there) / to.noise
            there = there + (0.5 * (to.noise - to.signal * now.ratio)) * (slope_there - slope)
        x = there
        yield Step(x, clean)


def unipc(denoise: Denoise, x: Tensor, path: Trajectory, _noise: StepNoise, _eta: float) -> Iterator[Step]:
    """UniPC-2 with B(h) = exp(h) - 1 (Zhao et al., 2302.04867): each call also corrects the step before."""
    cleans: list[Tensor] = []
    widths: list[float] = []
    origin = x
    last = len(path) - 1
    for index, (now, to, t) in enumerate(path):
        clean = denoise(x, now, t)
        if index > 0:
            x = _corrected(origin, path.levels[index - 1], now, [*cleans, clean], widths)
        cleans, origin = [*cleans[-1:], clean], x
        widths = [*widths[-1:], to.log_snr - now.log_snr]
        ahead = clean
        if 0 < index < last:
            ahead = clean + (0.5 * widths[-1] / widths[-2]) * (clean - cleans[-2])
        x = (to.noise / now.noise) * x + _gain(now, to) * ahead
        yield Step(x, clean)


def lcm(denoise: Denoise, x: Tensor, path: Trajectory, noise: StepNoise, _eta: float) -> Iterator[Step]:
    """Multistep consistency sampling (Luo et al., 2310.04378): jump to clean, add fresh noise, repeat."""
    for index, (now, to, t) in enumerate(path):
        skip, out = _boundary(t)
        clean = out * denoise(x, now, t) + skip * x
        x = clean if to.noise == 0 else to.signal * clean + to.noise * noise(index)
        yield Step(x, clean)


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(run=ddim, grid="strided", eta=0.0),
    "dpmpp_2m": Sampler(run=dpmpp_2m, grid="open", eta=0.0),
    "dpmpp_2m_sde": Sampler(run=dpmpp_2m, grid="open", eta=1.0),
    "heun": Sampler(run=heun, grid="fractional", eta=0.0),
    "euler": Sampler(run=ddim, grid="fractional", eta=0.0),
    "euler_a": Sampler(run=ddim, grid="fractional", eta=1.0),
    "unipc": Sampler(run=unipc, grid="open", eta=0.0),
    "lcm": Sampler(run=lcm, grid="distilled", eta=0.0),
}


def _ancestral_noise(now: Level, to: Level) -> float:
    """How much of ``to.noise`` is fresh when a step makes no use of the old noise's direction (eta 1)."""
    return to.noise * math.sqrt(max(1.0 - (to.ratio / now.ratio) ** 2, 0.0))


def _gain(now: Level, to: Level) -> float:
    """The weight of a clean estimate that is constant over the step from ``now`` to ``to``."""
    return to.signal - to.noise * now.signal / now.noise


def _boundary(t: float) -> tuple[float, float]:
    """Skip and output weight of a consistency model at time ``t``: data deviation 0.5, times scaled by 10."""
    scaled = 10.0 * t
    return 0.25 / (scaled**2 + 0.25), scaled / math.sqrt(scaled**2 + 0.25)


def _corrected(origin: Tensor, now: Level, to: Level, cleans: list[Tensor], widths: list[float]) -> Tensor:
    """UniC: redo the step from ``origin`` (at ``now``) with the estimate made at its end, ``cleans[-1]``.

    ``cleans`` holds the estimates at the level before ``now`` (missing on the first step), at ``now`` and at
    ``to``; ``widths`` the log-SNR widths of the step before (if any) and of this one.
    """
    here, there = cleans[-2], cleans[-1]
    weight, bend = 0.5, 0.0
    if len(cleans) > 2:
        weight, bend = _corrector_weights(widths[-1], widths[-2])
    ahead = here + weight * (there - here)
    if bend:
        ahead = ahead + bend * (cleans[-3] - here)
    return (to.noise / now.noise) * origin + _gain(now, to) * ahead


def _corrector_weights(width: float, width_before: float) -> tuple[float, float]:
    """UniC-2's weights of the differences to the end of the step and to the step before.

    They solve the two order conditions of the paper's equation 9 for B(h) = exp(-h) - 1.
    """
    h = -width
    grown = math.expm1(h)
    first = (grown / h - 1.0) / grown
    second = 2.0 * ((grown / h - 1.0) / h - 0.5) / grown
    past = -width_before / width
    share = (first - second) / (1.0 - past) if math.isfinite(past) else 0.0
    bend = share / past if share else 0.0
    return first - share, bend
