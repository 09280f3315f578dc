import torch

from kinescribe.diffusion.guidance import guide

NEGATIVE, POSITIVE = torch.randn(2, 2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_guidance_moves_along_the_difference() -> None:
    result = guide(NEGATIVE, POSITIVE, guidance=9.0, rescale=0.0)
    assert torch.allclose(result, NEGATIVE + 9.0 * (POSITIVE - NEGATIVE))


def test_full_rescale_gives_every_clip_the_spread_of_its_prompt() -> None:
    result = guide(NEGATIVE, POSITIVE, guidance=9.0, rescale=1.0)
    assert torch.allclose(result.flatten(1).std(dim=1), POSITIVE.flatten(1).std(dim=1), rtol=1e-5)


def test_partial_rescale_lies_between() -> None:
    plain = guide(NEGATIVE, POSITIVE, guidance=9.0, rescale=0.0)
    full = guide(NEGATIVE, POSITIVE, guidance=9.0, rescale=1.0)
    part = guide(NEGATIVE, POSITIVE, guidance=9.0, rescale=0.2)
    assert torch.allclose(part, 0.2 * full + 0.8 * plain, atol=1e-5)


def test_rescale_of_one_clip_does_not_depend_on_its_neighbours() -> None:
    alone = guide(NEGATIVE[:1], POSITIVE[:1], guidance=9.0, rescale=0.7)
    assert torch.allclose(guide(NEGATIVE, POSITIVE, guidance=9.0, rescale=0.7)[:1], alone)
