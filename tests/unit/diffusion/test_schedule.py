import math
from dataclasses import replace

import pytest
import torch

from goldens import expected
from kinescribe.diffusion.schedule import CLEAN, MODELSCOPE, Level, Schedule, ScheduleConfig, level_of_ratio
from kinescribe.errors import OptionError

SECOND = replace(MODELSCOPE, kind="logsnr_cosine_interpolated", prediction="velocity")
VGEN = replace(MODELSCOPE, kind="cosine", prediction="velocity", zero_terminal_snr=True)
CLIP = (2, 4, 3, 2, 2)


def test_modelscope_table_equals_the_reference_in_float64() -> None:
    tables = expected("text_to_video")
    squared = Schedule(MODELSCOPE).signal ** 2
    assert torch.allclose(squared, tables["schedule.alphas_cumprod"], rtol=1e-14, atol=0)
    assert torch.allclose(squared.float(), tables["schedule.alphas_cumprod_diffusers"], rtol=2e-6, atol=0)


@pytest.mark.parametrize("kind", ["scaled_linear", "linear", "cosine", "logsnr_cosine_interpolated"])
def test_signal_falls_and_levels_keep_unit_variance(kind: str) -> None:
    schedule = Schedule(replace(MODELSCOPE, kind=kind))
    assert schedule.signal.dtype == torch.float64
    assert bool((schedule.signal.diff() < 0).all())
    assert torch.allclose(schedule.signal**2 + schedule.noise**2, torch.ones(1000, dtype=torch.float64))


def test_vgen_cosine_values_as_published() -> None:
    squared = Schedule(VGEN).signal ** 2
    assert squared[0].item() == pytest.approx(0.99996, abs=5e-6)
    assert squared[1].item() == pytest.approx(0.99991, abs=5e-6)
    assert squared[981].item() == pytest.approx(7.84e-4, rel=2e-3)
    assert squared[999].item() == 0.0


def test_interpolated_cosine_values_as_published() -> None:
    schedule = Schedule(SECOND)
    assert schedule.noise[0].item() == pytest.approx(0.0011062614, rel=1e-7)
    assert schedule.noise[599].item() == pytest.approx(0.97236323, rel=1e-7)
    assert schedule.signal[599].item() == pytest.approx(0.23347324, rel=1e-6)
    assert schedule.noise[699].item() == pytest.approx(0.98787963, rel=1e-7)


def test_zero_terminal_snr_does_nothing_to_the_interpolated_cosine() -> None:
    plain, rescaled = Schedule(SECOND), Schedule(replace(SECOND, zero_terminal_snr=True))
    assert plain.level(999) == Level(0.0, 1.0)  # float32 rounds its noise up
    assert torch.equal(plain.signal, rescaled.signal)
    assert plain.finite_level(999.0).signal == pytest.approx(2**-12)


@pytest.mark.parametrize("config", [MODELSCOPE, SECOND, VGEN])
def test_interpolated_levels_are_linear_in_the_logarithm_of_the_ratio(config: ScheduleConfig) -> None:
    schedule = Schedule(config)
    low, middle, high, end = schedule.interpolated_levels([41.0, 41.25, 42.0, 999.0])
    assert low.ratio == pytest.approx(schedule.level(41).ratio, rel=1e-5)
    assert high.ratio == pytest.approx(schedule.level(42).ratio, rel=1e-5)
    assert middle.ratio == pytest.approx(low.ratio**0.75 * high.ratio**0.25, rel=1e-6)
    assert end.ratio == pytest.approx(schedule.ratio_range()[1], rel=1e-5)
    assert all(level.signal**2 + level.noise**2 == pytest.approx(1, rel=1e-15) for level in (low, middle))


def test_zero_terminal_snr_keeps_the_first_level_and_ends_without_signal() -> None:
    plain, rescaled = Schedule(MODELSCOPE), Schedule(replace(MODELSCOPE, zero_terminal_snr=True))
    assert rescaled.level(0).signal == pytest.approx(plain.level(0).signal, rel=1e-15)
    assert rescaled.level(999) == Level(0.0, 1.0)
    assert math.isinf(rescaled.level(999).ratio)
    assert rescaled.finite_level(999.0).signal == pytest.approx(2**-12)


def test_finite_level_between_two_steps_is_linear_in_the_ratio() -> None:
    schedule = Schedule(MODELSCOPE)
    middle = (schedule.level(41).ratio + schedule.level(42).ratio) / 2
    assert schedule.finite_level(41.5).ratio == pytest.approx(middle, rel=1e-12)
    assert schedule.finite_level(999.0).ratio == pytest.approx(schedule.level(999).ratio, rel=1e-12)


def test_time_of_a_level_is_its_training_step() -> None:
    schedule = Schedule(MODELSCOPE)
    assert [round(schedule.time_of(schedule.level(t)), 6) for t in (0, 1, 500, 998, 999)] == [
        0, 1, 500, 998, 999,
    ]  # fmt: skip


def test_ratio_and_log_snr_are_infinite_only_at_the_ends() -> None:
    assert CLEAN.ratio == 0
    assert CLEAN.log_snr == math.inf
    assert Level(0.0, 1.0).log_snr == -math.inf
    assert level_of_ratio(2.0).log_snr == pytest.approx(-math.log(2))


@pytest.mark.parametrize("prediction", ["noise", "velocity", "clean"])
def test_target_and_corrupt_are_consistent_with_the_level(prediction: str) -> None:
    schedule = Schedule(replace(VGEN, prediction=prediction))
    clean, eps = torch.randn(CLIP), torch.randn(CLIP)
    t = torch.tensor([10, 999])
    noisy = schedule.corrupt(clean, eps, t)
    target = schedule.target(clean, eps, t)
    assert torch.allclose(noisy[1], eps[1])
    answered = (
        slice(0, 1) if prediction == "noise" else slice(None)
    )  # without signal noise says nothing of the clip
    assert torch.allclose(schedule.clean(target, noisy, t)[answered], clean[answered], atol=1e-5)
    if prediction == "velocity":
        assert torch.allclose(target[1], -clean[1])
        signal, noise = schedule.level(10)
        assert torch.allclose(signal * noisy[0] - noise * target[0], clean[0], atol=1e-6)
    else:
        assert target is (eps if prediction == "noise" else clean)


def test_one_training_step_is_refused() -> None:
    with pytest.raises(OptionError, match="train_steps=1"):
        Schedule(replace(MODELSCOPE, train_steps=1))
