"""The noise of a frame: by its place and the seed, and by nothing else."""

import pytest
import torch

from kinescribe.diffusion.noise import frame_seeds
from kinescribe.diffusion.schedule import MODELSCOPE, Schedule
from kinescribe.diffusion.sdedit import second_stage
from kinescribe.errors import OptionError
from kinescribe.pipelines.draws import FrameDraws, GivenNoise, as_given

CPU = torch.device("cpu")
SHAPE = (4, 6, 3, 5)
PATH = second_stage("dpmpp_2m_sde", Schedule(MODELSCOPE), 4)


def draws(frames: int = 6, *, seed: int = 7, given: GivenNoise | None = None) -> FrameDraws:
    return FrameDraws(seed, (4, frames, 3, 5), given or GivenNoise(), device=CPU)


def numbers(made: FrameDraws) -> list[torch.Tensor]:
    """One draw of each kind, frames on axis 2."""
    posterior = made.posterior(sampled=True)
    assert posterior is not None
    first = made.initial()
    walk = made.brownian(PATH)
    return [posterior.transpose(0, 1)[None], first, walk(0), walk(1), made.step(0), made.step(1)]


def test_a_frame_has_the_same_numbers_however_many_follow() -> None:
    for long, short in zip(numbers(draws(6)), numbers(draws(2)), strict=True):
        assert torch.equal(long[:, :, :2], short)


def test_frames_kinds_and_seeds_differ() -> None:
    made, other = numbers(draws()), numbers(draws(seed=8))
    for i, one in enumerate(made):
        assert one.shape == (1, *SHAPE)
        assert not torch.equal(one[:, :, 0], one[:, :, 1])
        assert not torch.equal(one, other[i])
        assert not any(torch.equal(one, two) for two in made[i + 1 :])


def test_all_of_it_is_unit_noise() -> None:
    many = torch.cat(
        [torch.cat(numbers(FrameDraws(s, (4, 16, 8, 8), GivenNoise(), device=CPU))) for s in (1, 2)]
    )
    assert many.mean().abs() < 0.02
    assert many.std() == pytest.approx(1, abs=0.02)


def test_seeds_of_frames_are_those_of_their_place() -> None:
    assert frame_seeds(5, 3) == frame_seeds(5, 9)[:3]
    every = frame_seeds(5, 100) + frame_seeds(6, 100) + frame_seeds(2**63 - 1, 100)
    assert len(set(every)) == 300
    assert all(0 <= seed < 2**63 for seed in every)


def test_a_mean_needs_no_numbers() -> None:
    assert draws().posterior(sampled=False) is None


def test_given_numbers_are_used_as_they_are() -> None:
    given = GivenNoise(initial=torch.randn(1, *SHAPE), posterior=torch.randn(6, 4, 3, 5), entropy=3)
    made = draws(given=given)
    posterior = made.posterior(sampled=False)
    assert posterior is not None and given.posterior is not None and given.initial is not None
    assert torch.equal(posterior, given.posterior)
    assert torch.equal(made.initial(), given.initial)
    assert torch.equal(made.brownian(PATH)(0), draws(given=GivenNoise(entropy=3), seed=1).brownian(PATH)(0))


def test_a_tensor_is_what_a_clip_starts_from() -> None:
    noise = torch.randn(1, *SHAPE)
    assert as_given(noise, SHAPE, pictures=6).initial is noise
    assert as_given(None, SHAPE, pictures=6) == GivenNoise()


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (torch.zeros(1, 4, 6, 3, 4), r"shape \(1, 4, 6, 3, 4\): this request needs \(1, 4, 6, 3, 5\)"),
        (torch.full((1, *SHAPE), torch.nan), "all of them finite"),
        (GivenNoise(initial=torch.zeros(1, 4, 5, 3, 5)), "this request needs"),
        (GivenNoise(posterior=torch.zeros(5, 4, 3, 5)), r"needs \(6, 4, 3, 5\)"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(noise: torch.Tensor | GivenNoise, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        as_given(noise, SHAPE, pictures=6)
