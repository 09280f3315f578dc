import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from goldens import expected
from kinescribe.diffusion.denoiser import denoiser
from kinescribe.diffusion.samplers import SAMPLERS, Step, plan, sample
from kinescribe.diffusion.schedule import MODELSCOPE, Level, Schedule, level_of_ratio
from kinescribe.diffusion.trajectory import Trajectory, chain
from kinescribe.errors import OptionError

EXPECTED = expected("text_to_video")
SCHEDULE = Schedule(MODELSCOPE)
ZERO_SNR = Schedule(replace(MODELSCOPE, prediction="velocity", zero_terminal_snr=True))
MEAN, SPREAD = 0.3, 0.5


def no_noise(index: int) -> Tensor:
    raise AssertionError(f"step {index} of a deterministic sampler drew noise")


def toy(x: Tensor, t: float, _: str) -> Tensor:
    """The analytic network the stored traces were made with."""
    return 0.9 * math.cos(t / 1000) * x + 0.1


def gaussian(x: Tensor, level: Level, _: float) -> Tensor:
    """The exact denoiser of clips whose values are Gaussian with MEAN and SPREAD."""
    variance = (level.signal * SPREAD) ** 2 + level.noise**2
    return MEAN + level.signal * SPREAD**2 / variance * (x - level.signal * MEAN)


def even_path(steps: int) -> Trajectory:
    """Evenly spaced in log-SNR from -2.5 to 2.5."""
    levels = [level_of_ratio(math.exp(2.5 - 5.0 * i / steps)) for i in range(steps + 1)]
    return chain([0.0] * steps, levels[:-1], levels[-1])


def trace(key: str, sampler: str, steps: int, spacing: str | None = None) -> tuple[Tensor, Tensor]:
    path = plan(sampler, SCHEDULE, steps, spacing)
    ran = sample(sampler, denoiser(toy, "noise"), EXPECTED["toy.noise"], path, noise=no_noise)
    return torch.stack([step.x for step in ran]), EXPECTED[f"toy.{key}"]


@pytest.mark.parametrize(
    ("key", "sampler", "steps", "spacing"),
    [(f"modelscope_ddim_{n}", "ddim", n, "modelscope_strict") for n in (5, 30, 50)]
    + [(f"diffusers_ddim_{n}", "ddim", n, None) for n in (5, 30, 50)]
    + [(f"diffusers_dpmpp_{n}", "dpmpp_2m", n, None) for n in (5, 10, 20, 25)]
    + [("diffusers_dpmpp_leading_10", "dpmpp_2m", 10, "leading")]
    + [("diffusers_dpmpp_trailing_10", "dpmpp_2m", 10, "trailing")]
    + [("diffusers_ddim_trailing_10", "ddim", 10, "trailing")],
)
def test_every_step_equals_the_stored_reference(
    key: str, sampler: str, steps: int, spacing: str | None
) -> None:
    result, expected = trace(key, sampler, steps, spacing)
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_ddim_with_eta_equals_the_modelscope_loop() -> None:
    generator = torch.Generator().manual_seed(99)
    start = EXPECTED["toy.noise"]
    ran = sample(
        "ddim",
        denoiser(toy, "noise"),
        start,
        plan("ddim", SCHEDULE, 5, "modelscope_strict"),
        noise=lambda _: torch.randn(start.shape, generator=generator),
        eta=1.0,
    )
    result, expected = torch.stack([step.x for step in ran]), EXPECTED["toy.modelscope_ddim_5_eta1"]
    assert (result - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp_2m", 2), ("heun", 2), ("unipc", 2)])
def test_convergence_order_on_an_equation_with_a_known_answer(sampler: str, order: int) -> None:
    start = torch.randn(1, 1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (160, 320, 640):
        path = even_path(steps)
        (first, last) = path.levels[0], path.landings[-1]
        *_, step = sample(sampler, gaussian, start, path, noise=no_noise)
        growth = math.sqrt(
            ((last.signal * SPREAD) ** 2 + last.noise**2) / ((first.signal * SPREAD) ** 2 + first.noise**2)
        )
        answer = last.signal * MEAN + growth * (start - first.signal * MEAN)
        errors.append((step.x - answer).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_2m_sde", "heun", "euler", "euler_a", "unipc"])
def test_samples_have_the_distribution_of_the_data(sampler: str) -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(1, 1, 1, 200, 200, dtype=torch.float64, generator=generator)
    path = plan(sampler, SCHEDULE, 100)
    first = path.levels[0]  # not quite pure noise: the last training step still holds 7 % signal
    *_, step = sample(
        sampler,
        gaussian,
        first.signal * MEAN + math.hypot(first.signal * SPREAD, first.noise) * start,
        path,
        noise=lambda _: torch.randn(start.shape, dtype=torch.float64, generator=generator),
    )
    assert step.x.mean().item() == pytest.approx(MEAN, abs=0.01)
    allowed = (
        0.08 if sampler == "euler_a" else 0.03
    )  # ancestral steps are of first order and narrow the spread
    assert step.x.std().item() == pytest.approx(SPREAD, rel=allowed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_for_each_step_and_finite_without_terminal_signal(sampler: str) -> None:
    path = plan(sampler, ZERO_SNR, 6, "trailing")
    assert path.times[0] == 999
    start = torch.randn(2, 4, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    ran: list[Step] = list(sample(sampler, denoiser(toy, "velocity"), start, path, noise=lambda _: start))
    assert len(ran) == 6
    assert all(bool(torch.isfinite(step.x).all()) and step.x.dtype == torch.float32 for step in ran)
    assert all(step.x.shape == step.clean.shape == start.shape for step in ran)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_2m_sde", "heun", "unipc"])
def test_solvers_stay_finite_at_an_infinite_ratio_too(sampler: str) -> None:
    levels = [ZERO_SNR.level(t) for t in (999, 700, 400, 100)]
    path = chain([999, 700, 400, 100], levels, Level(1.0, 0.0))
    start = torch.ones(1, 4, 2, 2, 2)
    ran = list(sample(sampler, denoiser(toy, "velocity"), start, path, noise=lambda _: start))
    assert all(bool(torch.isfinite(step.x).all()) for step in ran)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_is_enough(sampler: str) -> None:
    start = torch.ones(1, 4, 2, 2, 2)
    ran = list(sample(sampler, denoiser(toy, "noise"), start, plan(sampler, SCHEDULE, 1), noise=no_noise))
    assert len(ran) == 1


def test_heun_asks_twice_a_step_but_for_the_last() -> None:
    calls = 0

    def counting(x: Tensor, level: Level, t: float) -> Tensor:
        nonlocal calls
        calls += 1
        return gaussian(x, level, t)

    start = torch.ones(1, 4, 2, 2, 2)
    list(sample("heun", counting, start, plan("heun", SCHEDULE, 10), noise=no_noise))
    assert calls == 19


def test_samplers_are_lazy_so_that_stopping_is_cancelling() -> None:
    seen: list[float] = []

    def watching(x: Tensor, level: Level, t: float) -> Tensor:
        seen.append(t)
        return gaussian(x, level, t)

    ran = sample("ddim", watching, torch.ones(1, 4, 2, 2, 2), plan("ddim", SCHEDULE, 50), noise=no_noise)
    next(ran)
    next(ran)
    assert seen == [981, 961]


def test_unknown_sampler_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(OptionError, match=r"sampler='plms': use one of ddim, .*lcm"):
        plan("plms", SCHEDULE, 10)


def test_eta_is_refused_where_it_would_do_nothing() -> None:
    with pytest.raises(OptionError, match="only ddim takes an eta"):
        sample("heun", gaussian, torch.ones(1, 4, 2, 2, 2), even_path(2), noise=no_noise, eta=0.5)
