"""The two solvers that diffusers has and our own table does not: kept so that scripts naming them still run."""

from collections.abc import Iterator

from torch import Tensor

from kinescribe.diffusion.denoiser import Denoise
from kinescribe.diffusion.samplers import Step, StepNoise
from kinescribe.diffusion.schedule import Level
from kinescribe.diffusion.trajectory import Trajectory

# Adams-Bashforth weights for a history of 1, 2, 3 and 4 slopes, newest first.
_WEIGHTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms(denoise: Denoise, x: Tensor, path: Trajectory, _noise: StepNoise, _eta: float) -> Iterator[Step]:
    """Pseudo linear multistep (Liu et al., 2202.09778) without Runge-Kutta steps, as ``PNDMScheduler`` runs it.

    The first step asks the model twice, once at each of its ends, and averages; its second answer is then
    thrown away and asked for again.
    """
    history: list[Tensor] = []
    legs = list(path)
    for index, (now, to, t) in enumerate(legs):
        clean = denoise(x, now, t)
        eps = (x - now.signal * clean) / now.noise
        history = [eps, *history[:3]]
        slope = _weighted(history)
        if index == 0 and len(legs) > 1:
            there = _moved(x, now, to, slope)
            ahead = legs[1]
            clean_there = denoise(there, ahead.now, ahead.t)
            slope = (eps + (there - ahead.now.signal * clean_there) / ahead.now.noise) / 2
        x = _moved(x, now, to, slope)
        yield Step(x, clean)


def dpmpp_2s(
    denoise: Denoise, x: Tensor, path: Trajectory, _noise: StepNoise, _eta: float, *, skipped: int = 0
) -> Iterator[Step]:
    """DPM-Solver++(2S) (Lu et al., 2211.01095), as ``DPMSolverSinglestepScheduler`` runs it.

    Steps go in pairs: one of first order, then one of second order over both, from the pair's beginning. The
    last step is of first order, and so is a first one that would end a pair, where ``skipped`` steps came before.
    """
    origin, last = x, len(path) - 1
    before = Step(x, x)
    for index, (now, to, t) in enumerate(path):
        clean = denoise(x, now, t)
        if (index + skipped) % 2 == 0 or index in (0, last):
            origin = x
            x = _towards(origin, now, to, clean)
        else:
            start = path.levels[index - 1]
            width = to.log_snr - start.log_snr
            bend = 0.5 * width / (now.log_snr - start.log_snr)
            x = _towards(origin, start, to, before.clean + bend * (clean - before.clean))
        before = Step(x, clean)
        yield before


def _weighted(history: list[Tensor]) -> Tensor:
    weights = _WEIGHTS[len(history) - 1]
    return sum(
        (w * slope for w, slope in zip(weights[1:], history[1:], strict=True)), weights[0] * history[0]
    )


def _moved(x: Tensor, now: Level, to: Level, eps: Tensor) -> Tensor:
    """Along a constant ``eps``: what DDIM does."""
    return (to.signal / now.signal) * x + (to.noise - to.signal * now.ratio) * eps


def _towards(x: Tensor, now: Level, to: Level, clean: Tensor) -> Tensor:
    """Along a constant clean estimate: the same step in the other variable."""
    return (to.noise / now.noise) * x + (to.signal - to.noise * now.signal / now.noise) * clean
