import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinescribe.diffusion.samplers import SAMPLERS, plan, sample
from kinescribe.diffusion.schedule import CLEAN, MODELSCOPE, Level, Schedule
from kinescribe.diffusion.sdedit import inversion, noised, second_stage, tail
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.errors import OptionError

SCHEDULE = Schedule(MODELSCOPE)
SECOND = Schedule(replace(MODELSCOPE, kind="logsnr_cosine_interpolated", prediction="velocity"))
MEAN, SPREAD = 0.3, 0.5
EVERY = [name for name in SAMPLERS if name != "lcm"]


def gaussian(x: Tensor, level: Level, _: float) -> Tensor:
    """The exact denoiser of clips whose values are Gaussian with MEAN and SPREAD."""
    variance = (level.signal * SPREAD) ** 2 + level.noise**2
    return MEAN + level.signal * SPREAD**2 / variance * (x - level.signal * MEAN)


def clip_and_noise() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    clip = MEAN + SPREAD * torch.randn(1, 4, 4, 16, 16, generator=generator)
    return clip, torch.randn(clip.shape, generator=generator)


def refined(sampler: str, path: Trajectory) -> Tensor:
    clip, eps = clip_and_noise()
    generator = torch.Generator().manual_seed(3)

    def fresh(_: int) -> Tensor:
        return torch.randn(clip.shape, generator=generator)

    *_, step = sample(sampler, gaussian, noised(path, clip, eps), path, noise=fresh)
    return step.x


@pytest.mark.parametrize(
    ("steps", "strength", "kept"),
    [(25, 0.6, 15), (50, 1.0, 50), (3, 0.5, 1), (50, 0.58, 28)],
)
def test_tail_counts_steps_as_diffusers_does(steps: int, strength: float, kept: int) -> None:
    path = plan("dpmpp_2m", SCHEDULE, steps)
    cut = tail(path, strength)
    assert len(cut) == kept == int(steps * strength)
    assert list(cut) == list(path)[-kept:]


def test_tail_starts_from_a_mixed_clip_whatever_pure_noise_was_scaled_by() -> None:
    whole = plan("euler", SCHEDULE, 10)
    clip, eps = clip_and_noise()
    path = tail(whole, 0.5)
    signal, noise = path.levels[0]
    assert whole.start < 1
    assert torch.equal(noised(path, clip, eps), signal * clip + noise * eps)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, math.nan])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    for make in (
        lambda: tail(plan("ddim", SCHEDULE, 10), strength),
        lambda: second_stage("heun", SECOND, 10, strength=strength),
        lambda: inversion(SCHEDULE, 10, strength=strength),
    ):
        with pytest.raises(OptionError, match=f"strength={strength}: use a number above 0"):
            make()


def test_a_strength_that_leaves_no_step_is_refused_with_one_that_does() -> None:
    for steps in (1, 3, 7, 10, 30, 49, 50, 333, 1000):
        path = plan("ddim", SCHEDULE, steps)
        with pytest.raises(OptionError, match=f"{steps} steps leave none to take") as told:
            tail(path, 0.9 / steps)
        least = re.search(r"use strength (\S+) or more", str(told.value))
        assert least is not None
        assert len(tail(path, float(least[1]))) >= 1


@pytest.mark.parametrize("sampler", EVERY)
def test_the_weaker_the_closer_to_the_clip(sampler: str) -> None:
    clip, _ = clip_and_noise()
    away = []
    for strength in (0.1, 0.3, 0.6, 0.9):
        result = refined(sampler, tail(plan(sampler, SCHEDULE, 40), strength))
        assert result.std().item() == pytest.approx(SPREAD, rel=0.15)
        away.append((result - clip).std().item())
    assert away == sorted(away)
    assert away[0] < 0.4 < 0.5 < away[-1]


@pytest.mark.parametrize("sampler", EVERY)
def test_second_stage_makes_exactly_the_steps_asked_for(sampler: str) -> None:
    most = 599 if SAMPLERS[sampler].grid == "open" else 600
    for steps in (*range(1, 60), 110, 112, 127, 219, most):
        path = second_stage(sampler, SECOND, steps)
        assert len(path) == len(path.levels) == len(path.landings) == steps
        assert path.times[0] == 599
        assert all(now > then for now, then in zip(path.times, path.times[1:], strict=False))
        assert path.landings == (*path.levels[1:], CLEAN)
        ratios = [level.ratio for level in path.levels]
        assert ratios == sorted(ratios, reverse=True)
    with pytest.raises(OptionError, match=f"covers 600 training steps; use a whole number from 1 to {most}"):
        second_stage(sampler, SECOND, most + 1)


@pytest.mark.parametrize("steps", [0, -3])
def test_second_stage_needs_a_step(steps: int) -> None:
    with pytest.raises(OptionError, match=f"steps={steps}"):
        second_stage("heun", SECOND, steps)


@pytest.mark.parametrize(("sampler", "least"), [("dpmpp_2m_sde", 38), ("heun", 11)])
def test_only_solvers_of_whole_steps_leave_the_last_one_out(sampler: str, least: int) -> None:
    steps = {"dpmpp_2m_sde": 30, "heun": 50}[sampler]
    assert second_stage(sampler, SECOND, steps).times[-1] == least


def test_second_stage_is_not_for_distilled_models() -> None:
    with pytest.raises(OptionError, match="sampler=lcm"):
        second_stage("lcm", SECOND, 4)


def test_the_start_is_scaled_twice_unless_asked_to_be_consistent() -> None:
    clip, eps = clip_and_noise()
    published, consistent = (second_stage("heun", SECOND, 5, consistent_start=c) for c in (False, True))
    signal, noise = published.levels[0]
    assert torch.allclose(noised(consistent, clip, eps), signal * clip + noise * eps)
    assert torch.allclose(noised(published, clip, eps), noise * (signal * clip + noise * eps))
    assert noise == pytest.approx(0.97236, abs=1e-5)


def test_every_strength_begins_at_its_own_level_and_the_whole_range_is_finite() -> None:
    assert second_stage("heun", SECOND, 30, strength=0.7).times[0] == 699
    whole = second_stage("dpmpp_2m_sde", SECOND, 30, strength=1.0)
    assert whole.times[0] == 999
    assert whole.levels[0].ratio == pytest.approx(4096)
    assert bool(torch.isfinite(refined("dpmpp_2m_sde", whole)).all())


@pytest.mark.parametrize("sampler", EVERY)
def test_second_stage_samples_have_the_distribution_of_the_data(sampler: str) -> None:
    result = refined(sampler, second_stage(sampler, SECOND, 80, consistent_start=True))
    assert result.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert result.std().item() == pytest.approx(SPREAD, rel=0.1)


def test_inversion_strides_over_whole_steps_up_to_its_level() -> None:
    path = inversion(SCHEDULE, 30, strength=0.7)
    assert [int(t) for t in path.times] == list(range(0, 691, 23))
    assert path.levels == tuple(SCHEDULE.level(int(t)) for t in path.times)
    assert path.landings == (*path.levels[1:], SCHEDULE.level(699))
    with pytest.raises(OptionError, match="covers 700 training steps"):
        inversion(SCHEDULE, 701, strength=0.7)


def test_an_inverted_clip_comes_back() -> None:
    clip, _ = clip_and_noise()
    up = inversion(SCHEDULE, 350, strength=0.7)
    *_, top = sample("ddim", gaussian, clip, up, noise=lambda _: clip)
    down = Trajectory(
        times=up.times[::-1], levels=up.landings[::-1], landings=(*up.levels[:0:-1], SCHEDULE.level(0))
    )
    *_, back = sample("ddim", gaussian, top.x, down, noise=lambda _: clip)
    assert (top.x - clip).abs().max() > 0.5
    assert (back.x - clip).abs().max() < 0.02
