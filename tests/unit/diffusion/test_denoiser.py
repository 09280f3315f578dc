from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinescribe.diffusion.denoiser import Predict, at_trained_levels, clean_from, denoiser
from kinescribe.diffusion.guidance import EVERYWHERE, Interval
from kinescribe.diffusion.schedule import MODELSCOPE, Level, Schedule, level_of_ratio
from kinescribe.errors import OptionError

LEVEL = level_of_ratio(0.8)
SHAPE = (2, 4, 3, 2, 2)
CONDITIONS = {"negative": -0.3, "positive": 0.7}


def network(calls: list[tuple[str, int]]) -> Predict:
    """Answers with x plus a number for the condition, row by row."""

    def predict(x: Tensor, t: float, branch: str) -> Tensor:
        assert t == 17.5
        calls.append((branch, len(x)))
        if branch == "both":
            return torch.cat([x + CONDITIONS["negative"], x + CONDITIONS["positive"]])
        return x + CONDITIONS[branch]

    return predict


@pytest.mark.parametrize("prediction", ["noise", "velocity", "clean"])
def test_every_prediction_gives_back_the_clean_clip(prediction: str) -> None:
    clean, eps = torch.randn(SHAPE), torch.randn(SHAPE)
    x = LEVEL.signal * clean + LEVEL.noise * eps
    output = {"noise": eps, "velocity": LEVEL.signal * eps - LEVEL.noise * clean, "clean": clean}[prediction]
    assert torch.allclose(clean_from(output, x, LEVEL, prediction), clean, atol=1e-6)


def test_velocity_is_finite_without_any_signal() -> None:
    output = torch.ones(SHAPE)
    assert torch.equal(clean_from(output, torch.randn(SHAPE), Level(0.0, 1.0), "velocity"), -output)


def test_noise_prediction_without_any_signal_is_an_error() -> None:
    with pytest.raises(OptionError, match="without signal"):
        clean_from(torch.ones(SHAPE), torch.ones(SHAPE), Level(0.0, 1.0), "noise")


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0])
def test_guidance_of_one_or_less_asks_for_the_prompt_alone(guidance: float) -> None:
    calls: list[tuple[str, int]] = []
    x = torch.randn(SHAPE)
    result = denoiser(network(calls), "clean", guidance=guidance)(x, LEVEL, 17.5)
    assert calls == [("positive", 2)]
    assert torch.equal(result, x + CONDITIONS["positive"])


def test_one_doubled_batch_and_two_passes_agree() -> None:
    batched: list[tuple[str, int]] = []
    apart: list[tuple[str, int]] = []
    x = torch.randn(SHAPE)
    together = denoiser(network(batched), "noise", guidance=9.0)(x, LEVEL, 17.5)
    separate = denoiser(network(apart), "noise", guidance=9.0, batched=False)(x, LEVEL, 17.5)
    assert batched == [("both", 2)]
    assert apart == [("negative", 2), ("positive", 2)]
    assert torch.allclose(together, separate, atol=1e-6)


def test_half_precision_answers_are_guided_in_the_dtype_of_x() -> None:
    x = torch.randn(SHAPE)
    result = denoiser(lambda x, *_: torch.cat([x, x]).half(), "clean", guidance=3.0)(x, LEVEL, 17.5)
    assert result.dtype == torch.float32


def test_a_trained_level_is_that_of_the_rounded_time_wherever_x_is() -> None:
    schedule = Schedule(replace(MODELSCOPE, prediction="velocity"))
    x, output = torch.randn(SHAPE), torch.randn(SHAPE)
    asked: list[float] = []

    def predict(_: Tensor, t: float, __: str) -> Tensor:
        asked.append(t)
        return output

    own = denoiser(predict, "velocity")
    result = at_trained_levels(own, schedule)(x, LEVEL, 560.0)
    assert asked == [560.0]
    assert torch.equal(result, clean_from(output, x, schedule.level(560), "velocity"))
    assert not torch.equal(result, own(x, LEVEL, 560.0))


def test_beyond_its_interval_guidance_is_left_out() -> None:
    calls: list[tuple[str, int]] = []
    x = torch.randn(SHAPE)
    ratio = LEVEL.ratio
    for guided, asked in ((Interval(0, ratio), "both"), (Interval(0, ratio / 2), "positive")):
        denoiser(network(calls), "clean", guidance=9.0, guided=guided)(x, LEVEL, 17.5)
        assert calls[-1][0] == asked
    assert EVERYWHERE.holds(Level(0.0, 1.0)) and EVERYWHERE.holds(Level(1.0, 0.0))
