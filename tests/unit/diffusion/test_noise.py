import pytest
import torch

from kinescribe.diffusion.noise import LARGEST_SEED, Noise, seeds_from
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


def test_the_dtype_changes_the_rounding_not_the_draw() -> None:
    half, full = Noise([5], SHAPE, dtype=torch.float16), Noise([5], SHAPE)
    assert torch.equal(half.initial(), full.initial().half())


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
