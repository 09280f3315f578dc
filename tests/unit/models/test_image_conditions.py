"""Conditions of image-to-video: full-size counts, tokens and their order, the ramp, what the negative branch keeps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kinescribe.checkpoints.modelscope import I2VGEN_XL, IMAGE_TO_VIDEO, UNET
from kinescribe.models.conditions import Conditioning
from kinescribe.models.image_conditions import (
    ImageConditions,
    ImageConditionsConfig,
    LocalTemporal,
    with_ramp,
)
from kinescribe.models.unet import UNet, sinusoid

PLAIN = ImageConditionsConfig(
    width=8, image_width=6, context_dim=10, image_tokens=4, local_channels=0, local_additions=0
)
LOCAL = replace(PLAIN, local_channels=4, local_additions=2)


def tiny(config: ImageConditionsConfig = LOCAL) -> ImageConditions:
    """Every parameter random, biases as well."""
    torch.manual_seed(0)
    network = ImageConditions(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def given() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    shapes = {"image": (2, 1, 6), "text": (2, 7, 10), "latents": (2, 4, 6, 5)}
    parts = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    return {"fps": torch.tensor([8, 16]), **parts}


def told(network: ImageConditions, **changes: object) -> Conditioning:
    made: Conditioning = network(**{"frames": 3, **given(), **changes})
    return made


def concat(conditioning: Conditioning) -> Tensor:
    assert conditioning.concat is not None
    return conditioning.concat


@pytest.mark.parametrize(
    ("config", "in_channels", "parameters", "tensors"),
    [(IMAGE_TO_VIDEO, 4, 1_419_843_396, 1488), (I2VGEN_XL, 8, 1_420_469_224, 1509)],
)
def test_full_size_has_the_published_parameters(
    config: ImageConditionsConfig, in_channels: int, parameters: int, tensors: int
) -> None:
    with torch.device("meta"):
        networks = (UNet(replace(UNET, in_channels=in_channels)), ImageConditions(config))
    assert sum(p.numel() for network in networks for p in network.parameters()) == parameters
    assert sum(len(network.state_dict()) for network in networks) == tensors


def test_tokens_stand_in_the_order_text_latents_picture() -> None:
    network = tiny()
    whole = told(network).tokens
    assert whole.shape == (2, 7 + 64 + 4, 10)
    changed = {
        "text": torch.zeros(2, 7, 10),
        "latents": torch.zeros(2, 4, 6, 5),
        "image": torch.zeros(2, 1, 6),
    }
    places = {"text": slice(0, 7), "latents": slice(7, 71), "image": slice(71, 75)}
    for name, value in changed.items():
        moved = (told(network, **{name: value}).tokens != whole).any(-1).all(0)
        assert moved.nonzero().flatten().tolist() == list(range(75))[places[name]]


def test_a_missing_picture_leaves_its_tokens_out() -> None:
    network = tiny()
    assert torch.equal(told(network, image=None).tokens, told(network).tokens[:, :71])


def test_image_to_video_reads_the_picture_alone() -> None:
    network = tiny(PLAIN)
    made = told(network, text=None, latents=None)
    assert made.tokens.shape == (2, 4, 10)
    assert made.concat is None and made.hidden is None


def test_latents_mean_nothing_to_a_model_without_a_use_for_them() -> None:
    network = tiny(PLAIN)
    with_latents, without = told(network), told(network, latents=None)
    assert with_latents.concat is None
    assert torch.equal(with_latents.tokens, without.tokens)


def test_a_zero_embedding_still_gives_tokens() -> None:
    network = tiny(PLAIN)
    tokens = told(network, text=None, latents=None, image=torch.zeros(2, 1, 6)).tokens
    hidden = F.silu(network.image[0].bias) @ network.image[2].weight.mT + network.image[2].bias
    torch.testing.assert_close(tokens[0].flatten(), hidden)


def test_frame_rate_enters_through_the_embedding_alone() -> None:
    network = tiny()
    made, slower = told(network), told(network, fps=torch.tensor([8, 4]))
    assert made.embedding is not None and slower.embedding is not None
    assert made.embedding.shape == (2, 32)
    torch.testing.assert_close(made.embedding[:1], network.fps(sinusoid(torch.tensor([8]), 8)))
    torch.testing.assert_close(made.embedding[0], slower.embedding[0])
    assert not torch.allclose(made.embedding[1], slower.embedding[1])
    assert torch.equal(made.tokens, slower.tokens) and torch.equal(concat(made), concat(slower))


@pytest.mark.parametrize(("h", "w"), [(1, 1), (8, 8), (9, 40), (88, 160)])
def test_any_size_gives_64_local_tokens_and_its_own_channels(h: int, w: int) -> None:
    made = told(tiny(), latents=torch.randn(2, 4, h, w))
    assert made.tokens.shape == (2, 75, 10)
    assert concat(made).shape == (2, 4, 3, h, w)


def test_local_tokens_are_averaged_to_32_rows_and_read_row_by_row() -> None:
    network = tiny()
    assert network.local is not None
    first, _, _, second, _, third = network.local.tokens
    latents = torch.randn(2, 4, 64, 32)
    pooled = F.avg_pool2d(F.silu(first(latents)), (2, 1))
    wanted = third(F.silu(second(pooled)))
    assert wanted.shape == (2, 10, 8, 8)
    tokens = told(network, latents=latents).tokens[:, 7:71]
    torch.testing.assert_close(tokens[:, 8 * 3 + 5], wanted[:, :, 3, 5])


def test_local_channels_are_added_as_often_as_configured() -> None:
    once = concat(told(tiny(replace(LOCAL, local_additions=1))))
    torch.testing.assert_close(concat(told(tiny())), 2 * once)


def test_published_weights_were_trained_with_two_additions() -> None:
    assert I2VGEN_XL.local_additions == 2
    assert (IMAGE_TO_VIDEO.local_channels, IMAGE_TO_VIDEO.local_additions) == (0, 0)


def test_ramp_begins_with_the_picture_and_ends_with_ones() -> None:
    latents = torch.randn(2, 4, 3, 5)
    clip = with_ramp(latents, 5)
    assert torch.equal(clip[:, :, 0], latents)
    for k, place in enumerate((0.25, 0.5, 0.75, 1.0), 1):
        assert torch.equal(clip[:, :, k], torch.full_like(latents, place))


def test_a_single_frame_is_the_picture() -> None:
    latents = torch.randn(2, 4, 3, 5)
    assert torch.equal(with_ramp(latents, 1), latents[:, :, None])
    assert concat(told(tiny(), latents=latents, frames=1)).shape == (2, 4, 1, 3, 5)


def test_later_frames_see_the_picture_at_their_own_pixel() -> None:
    torch.manual_seed(0)
    network, latents = LocalTemporal(4).requires_grad_(False), torch.randn(1, 4, 3, 2, 2)
    changed = latents.clone()
    changed[:, :, 0, 0, 1] *= 2
    moved = (network(latents) != network(changed)).any(1)[0]
    assert moved[:, 0, 1].all()
    assert not moved[:, 1].any() and not moved[:, 0, 0].any()


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    network = tiny()
    whole, alone = told(network), told(network, **{name: value[1:] for name, value in given().items()})
    torch.testing.assert_close(alone.tokens, whole.tokens[1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(concat(alone), concat(whole)[1:])
    assert not torch.allclose(concat(whole)[:1], concat(whole)[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_and_agrees(dtype: torch.dtype) -> None:
    halved = {name: value.to(dtype) for name, value in given().items() if name != "fps"}
    made = told(tiny().to(dtype), **halved)
    wide = told(tiny().to(dtype).float(), **{name: value.float() for name, value in halved.items()})
    for half, single in (
        (made.tokens, wide.tokens),
        (made.concat, wide.concat),
        (made.embedding, wide.embedding),
    ):
        assert half is not None and half.dtype == dtype
        assert (half.float() - single).abs().max() < 0.02 * single.abs().max()
