import pytest
import torch

from kinescribe.diffusion.noise import LARGEST_SEED, Noise, SecondStageNoise, seeds_from
from kinescribe.errors import OptionError

SHAPE = (4, 3, 2, 2)


def test_noise_is_what_a_seeded_cpu_generator_gives() -> None:
    noise = Noise([1234], SHAPE)
    generator = torch.Generator().manual_seed(1234)
    assert torch.equal(noise.initial(), torch.randn((1, *SHAPE), generator=generator))
    assert torch.equal(noise.step(0), torch.randn((1, *SHAPE), generator=generator))


def test_a_video_does_not_depend_on_its_batch() -> None:
    together, alone = Noise([7, 8, 9], SHAPE), Noise([8], SHAPE)
    assert torch.equal(together.initial()[1:2], alone.initial())
    assert torch.equal(together.step(0)[1:2], alone.step(0))


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    Noise([5], SHAPE).initial()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_video_i_of_a_batch_uses_seed_plus_i() -> None:
    assert seeds_from(41, 3) == [41, 42, 43]


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(OptionError, match=f"seed={seed}"):
        seeds_from(seed, 1)


def test_offset_is_one_more_number_for_each_channel_and_frame() -> None:
    generator = torch.Generator().manual_seed(6)
    base = torch.randn((1, *SHAPE), generator=generator)
    wanted = base + 0.1 * torch.randn((1, 4, 3, 1, 1), generator=generator)
    noise = Noise([6], SHAPE, offset=0.1)
    assert torch.equal(noise.initial(), wanted)
    assert torch.equal(noise.step(0), torch.randn((1, *SHAPE), generator=generator))


def test_pictures_are_drawn_one_after_another_and_before_the_start() -> None:
    generator = torch.Generator().manual_seed(6)
    wanted = torch.stack([torch.randn((1, 4, 2, 2), generator=generator) for _ in range(5)], dim=1)
    noise = Noise([6], SHAPE)
    assert torch.equal(noise.posterior(5), wanted)
    assert torch.equal(noise.initial(), torch.randn((1, *SHAPE), generator=generator))


def test_every_video_has_its_own_entropy() -> None:
    first, second = Noise([6, 7], SHAPE).entropy()
    assert [first] == Noise([6], SHAPE).entropy()
    assert [second] == Noise([7], SHAPE).entropy()
    assert 0 <= first < LARGEST_SEED
    assert 0 <= second < LARGEST_SEED
    assert first != second


def strict(*seeds: int) -> SecondStageNoise:
    return SecondStageNoise([torch.Generator().manual_seed(seed) for seed in seeds], SHAPE)


def test_second_stage_numbers_do_not_depend_on_the_batch() -> None:
    together, alone = strict(7, 8, 9), strict(8)
    assert torch.equal(together.posterior(3)[1:2], alone.posterior(3))
    assert torch.equal(together.initial()[1:2], alone.initial())
    assert together.entropy()[1:2] == alone.entropy()


def test_second_stage_start_is_drawn_frame_by_frame_after_a_level() -> None:
    generator = torch.Generator().manual_seed(8)
    torch.randint(599, 600, (1,), generator=generator)
    wanted = torch.empty(1, 3, 4, 2, 2).permute(0, 2, 1, 3, 4).normal_(generator=generator)
    draws = strict(8)
    assert torch.equal(draws.initial(), wanted)
    assert draws.entropy() == [int(torch.randint(0, 2**63 - 1, [], generator=generator))]
