import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinescribe.diffusion.brownian import BrownianNoise, _Tree
from kinescribe.diffusion.samplers import plan
from kinescribe.diffusion.schedule import CLEAN, MODELSCOPE, Level, Schedule, level_of_ratio
from kinescribe.diffusion.trajectory import Trajectory, chain
from kinescribe.errors import OptionError

SHAPE = (4, 3, 2, 2)
SCHEDULE = Schedule(MODELSCOPE)


def path_of(*ratios: float) -> Trajectory:
    """A path whose steps begin at these ratios; the last lands on the clean clip."""
    return chain([0] * len(ratios), [level_of_ratio(ratio) for ratio in ratios], CLEAN)


def all_steps(noise: BrownianNoise, count: int) -> Tensor:
    return torch.stack([noise.step(i) for i in range(count)])


def test_steps_can_be_asked_for_in_any_order() -> None:
    path = plan("dpmpp_2m_sde", SCHEDULE, 12)
    down, up = BrownianNoise([7], SHAPE, path), BrownianNoise([7], SHAPE, path)
    backwards = torch.stack([up.step(i) for i in reversed(range(11))]).flip(0)
    assert torch.equal(all_steps(down, 11), backwards)
    assert torch.equal(down.step(3), up.step(3))


def test_a_step_is_the_sum_of_the_steps_within_it() -> None:
    ratios = (3.7, 2.2, 1.9, 0.4, 0.1)
    fine = all_steps(BrownianNoise([5], SHAPE, path_of(*ratios)), 4)
    coarse = all_steps(BrownianNoise([5], SHAPE, path_of(3.7, 1.9, 0.1)), 2)
    spreads = [math.sqrt(high - low) for high, low in zip(ratios, ratios[1:], strict=False)]
    gains = [spread * step for spread, step in zip(spreads, fine, strict=True)]
    assert torch.allclose(math.sqrt(1.8) * coarse[0], gains[0] + gains[1], atol=1e-5)
    assert torch.allclose(math.sqrt(1.8) * coarse[1], gains[2] + gains[3], atol=1e-5)


def test_steps_are_unit_noise_that_does_not_repeat() -> None:
    noise = BrownianNoise([11], (4, 8, 32, 32), plan("dpmpp_2m_sde", SCHEDULE, 9))
    steps = all_steps(noise, 8).flatten(1)
    assert torch.allclose(torch.corrcoef(steps), torch.eye(8), atol=0.03)
    assert torch.allclose(steps.std(dim=1), torch.ones(8), atol=0.02)


def test_a_video_does_not_depend_on_its_batch() -> None:
    path = plan("dpmpp_2m_sde", SCHEDULE, 5)
    together, alone = BrownianNoise([1, 2, 3], SHAPE, path), BrownianNoise([2], SHAPE, path)
    assert torch.equal(all_steps(together, 4)[:, 1:2], all_steps(alone, 4))
    assert not torch.equal(together.step(0)[0], together.step(0)[1])


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    BrownianNoise([4], SHAPE, plan("dpmpp_2m_sde", SCHEDULE, 5)).step(0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_going_down_draws_half_and_keeps_one_way_down_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = 0
    plain = torch.randn

    def counting(*args: Any, **keywords: Any) -> Tensor:
        nonlocal draws
        draws += 1
        return plain(*args, **keywords)

    monkeypatch.setattr(torch, "randn", counting)
    path = plan("dpmpp_2m_sde", SCHEDULE, 30)
    ratios = [(leg.to.ratio, leg.now.ratio) for leg in path][:29]
    ends = min(map(min, ratios)), max(map(max, ratios))
    tree, kept = _Tree(4, SHAPE, *ends), []  # without the threads that ask it ahead
    for leg in ratios:
        tree.increment(*leg)
        kept.append(len(tree._halved))
    down, draws = draws, 0
    for leg in ratios:
        _Tree(4, SHAPE, *ends).increment(*leg)
    assert down < 0.6 * draws
    assert 15 < max(kept) < 30


def test_no_step_of_no_width() -> None:
    noise = BrownianNoise([4], SHAPE, path_of(2.0, 1.00000012, 1.0, 0.5))
    assert torch.equal(noise.step(1), torch.zeros(1, *SHAPE))


def test_a_level_without_signal_is_refused() -> None:
    with pytest.raises(OptionError, match="spacing that starts later"):
        BrownianNoise([4], SHAPE, chain([999, 500], [Level(0.0, 1.0), level_of_ratio(1.0)], CLEAN))


def test_a_schedule_without_terminal_signal_is_walked_all_the_same() -> None:
    schedule = Schedule(replace(MODELSCOPE, prediction="velocity", zero_terminal_snr=True))
    noise = BrownianNoise([4], (4, 8, 16, 16), plan("dpmpp_2m_sde", schedule, 4, "trailing"))
    assert noise.step(0).std().item() == pytest.approx(1.0, abs=0.05)
