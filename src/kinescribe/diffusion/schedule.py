"""Noise schedules: how much signal and how much noise is left at every training step.

Scaled-linear is the schedule of Latent Diffusion, cosine that of Nichol and Dhariwal (2102.09672), the zero
terminal SNR rescale that of Lin et al. (2305.08891), the interpolated log-SNR one that of ModelScope's
video-to-video stage. All tables are float64; the interpolated one holds the float32 numbers of its reference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinescribe.errors import OptionError

Kind = Literal["scaled_linear", "linear", "cosine", "logsnr_cosine_interpolated"]
Prediction = Literal["noise", "velocity", "clean"]
Spacing = Literal["leading", "trailing", "linspace", "karras", "modelscope_strict"]
Final = Literal["first", "clean"]

# Solvers in log-SNR cannot start at an infinite ratio: where the schedule ends without any signal, they see
# this much (abar = 2^-24, the value the diffusers solvers put there too).
LEAST_SIGNAL = 2.0**-12


class Level(NamedTuple):
    """How ``x = signal * clean + noise * eps`` is mixed; ``signal**2 + noise**2 == 1``, both in [0, 1]."""

    signal: float
    noise: float

    @property
    def ratio(self) -> float:
        """noise / signal: 0 for a clean clip, infinite where no signal is left."""
        return self.noise / self.signal if self.signal > 0 else math.inf

    @property
    def log_snr(self) -> float:
        """log(signal / noise), the half log-SNR that the solvers integrate over; infinite at both ends."""
        if self.noise == 0:
            return math.inf
        return math.log(self.signal / self.noise) if self.signal > 0 else -math.inf


CLEAN = Level(1.0, 0.0)


def level_of_ratio(ratio: float) -> Level:
    """The level whose noise / signal is ``ratio`` (0 or more, finite)."""
    root = math.hypot(1.0, ratio)
    return Level(1.0 / root, ratio / root)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """What a checkpoint was trained with, and on which steps it is meant to be sampled."""

    kind: Kind
    beta_start: float  # unused by the two cosine kinds
    beta_end: float  # unused by the two cosine kinds
    train_steps: int
    prediction: Prediction
    zero_terminal_snr: bool
    spacing: (
        Spacing | None
    )  # None: every sampler's own habit (leading for ddim and lcm, linspace for solvers)
    offset: int  # added to every time of the leading spacing
    final: Final  # where ddim ends: on the first training step, or on the clean clip
    shift: float = (
        1.0  # of trailing times u in [0, 1]: they become shift u / (1 + (shift - 1) u) (2403.03206, 5.3.2)
    )


MODELSCOPE = ScheduleConfig(
    kind="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
    train_steps=1000,
    prediction="noise",
    zero_terminal_snr=False,
    spacing=None,
    offset=1,
    final="first",
)


class Schedule:
    """The tables of one configuration: ``signal`` and ``noise`` (float64, CPU), index 0 the cleanest."""

    signal: Float[Tensor, " train_steps"]
    noise: Float[Tensor, " train_steps"]

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        signal_squared = _signal_squared(config)
        if config.zero_terminal_snr:
            signal_squared = _without_terminal_signal(signal_squared)
        self.signal = signal_squared.sqrt()
        self.noise = (1.0 - signal_squared).sqrt()
        self._ratios: list[float] = _finite_ratios(config, self.signal, self.noise).tolist()

    def level(self, t: int) -> Level:
        """The level of training step ``t`` in [0, train_steps)."""
        return Level(self.signal[t].item(), self.noise[t].item())

    def finite_level(self, t: float) -> Level:
        """The level at ``t``, between steps linear in noise / signal, never quite without signal."""
        low = min(int(t), len(self._ratios) - 2)
        weight = t - low
        return level_of_ratio((1 - weight) * self._ratios[low] + weight * self._ratios[low + 1])

    def interpolated_levels(self, times: Sequence[float]) -> list[Level]:
        """The levels at ``times``, between steps linear in log(noise / signal), never quite without signal.

        In float32 throughout, as in the second stage's reference: its Brownian path is drawn by ratio, to the
        sixth digit.
        """
        where = torch.tensor(times, dtype=torch.float64).float()
        logs = torch.tensor(self._ratios, dtype=torch.float64).float().log()
        weight = where.frac()
        between = (1 - weight) * logs[where.floor().long()] + weight * logs[where.ceil().long()]
        return [level_of_ratio(ratio) for ratio in between.exp().tolist()]

    def time_of(self, level: Level) -> float:
        """The training step, fractional, whose level this is; linear in log(noise / signal) between steps."""
        logs = torch.tensor(self._ratios, dtype=torch.float64).log()
        wanted = torch.tensor(level.ratio, dtype=torch.float64).log()
        low = int((torch.searchsorted(logs, wanted, right=True) - 1).clamp(0, len(logs) - 2))
        weight = float(((wanted - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1))
        return low + weight

    def ratio_range(self) -> tuple[float, float]:
        """The least and the greatest finite noise / signal of the schedule."""
        return self._ratios[0], self._ratios[-1]

    def corrupt(
        self, clean: Float[Tensor, "b c f h w"], eps: Float[Tensor, "b c f h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c f h w"]:
        """The noisy clip of training step ``t`` (one step per clip): signal * clean + noise * eps."""
        signal, noise = self._columns(t, clean)
        return signal * clean + noise * eps

    def target(
        self, clean: Float[Tensor, "b c f h w"], eps: Float[Tensor, "b c f h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c f h w"]:
        """What the model of this configuration should answer for ``corrupt(clean, eps, t)``."""
        if self.config.prediction == "noise":
            return eps
        if self.config.prediction == "clean":
            return clean
        signal, noise = self._columns(t, clean)
        return signal * eps - noise * clean

    def clean(
        self, output: Float[Tensor, "b c f h w"], x: Float[Tensor, "b c f h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c f h w"]:
        """The clean clip that the answer ``output`` for ``x`` at steps ``t`` means, see ``denoiser.clean_from``."""
        if self.config.prediction == "clean":
            return output
        signal, noise = self._columns(t, x)
        if self.config.prediction == "velocity":
            return signal * x - noise * output
        return (x - noise * output) / signal

    def _columns(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        where = t.to(self.signal.device)
        shape = (-1, 1, 1, 1, 1)
        return self.signal[where].to(like).view(shape), self.noise[where].to(like).view(shape)


def _signal_squared(config: ScheduleConfig) -> Tensor:
    n = config.train_steps
    if n < 2:
        raise OptionError(f"train_steps={n}: a schedule needs at least 2 steps")
    if config.kind == "logsnr_cosine_interpolated":
        return 1.0 - _interpolated_cosine(n).double() ** 2
    if config.kind == "cosine":
        return torch.cumprod(1.0 - _cosine_betas(n), dim=0)
    if config.kind == "linear":
        betas = torch.linspace(config.beta_start, config.beta_end, n, dtype=torch.float64)
    else:
        roots = (math.sqrt(config.beta_start), math.sqrt(config.beta_end))
        betas = torch.linspace(*roots, n, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def _cosine_betas(n: int) -> Tensor:
    """Betas of the squared-cosine schedule: offset 0.008, no beta above 0.999."""
    u = torch.arange(n + 1, dtype=torch.float64) / n
    left = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1.0 - left[1:] / left[:-1]).clamp(max=0.999)


def _interpolated_cosine(n: int) -> Float[Tensor, " train_steps"]:
    """The noise, float32: cosine in log-SNR within [-15, 15], shifted for twice the resolution early, four times late.

    Float32 rounds the last step's noise to 1, so nothing is left for a zero terminal SNR rescale to do.
    """
    start, end = math.atan(math.exp(7.5)), math.atan(math.exp(-7.5))
    u = torch.linspace(1.0, 0.0, n, dtype=torch.float32)
    log_snr = -2.0 * torch.log(torch.tan(start + u * (end - start)))
    twice, four_times = log_snr + 2.0 * math.log(1 / 2), log_snr + 2.0 * math.log(1 / 4)
    return torch.sigmoid(-(u * twice + (1.0 - u) * four_times)).sqrt()


def _finite_ratios(config: ScheduleConfig, signal: Tensor, noise: Tensor) -> Float[Tensor, " train_steps"]:
    """noise / signal of every step, a step without signal taken as one of ``LEAST_SIGNAL``."""
    finite = torch.where(signal == 0, LEAST_SIGNAL, signal)
    ratios = ((1.0 - finite**2) / finite**2).sqrt()
    if config.kind != "logsnr_cosine_interpolated":
        return ratios
    squared = noise.float() ** 2
    return torch.where(signal == 0, ratios, (squared / (1.0 - squared)).sqrt().double())


def _without_terminal_signal(signal_squared: Tensor) -> Tensor:
    """Shift and scale the signal so that the last step holds none and the first keeps its own."""
    signal = signal_squared.sqrt()
    first, last = signal[0].item(), signal[-1].item()
    return ((signal - last) * (first / (first - last))) ** 2
