"""The end of a transformer as one product gives what its last two layers give."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from kinescribe.checkpoints.modelscope import UNET
from kinescribe.models import unet as network
from kinescribe.models.conditions import Conditioning
from kinescribe.models.transformer import Transformer
from kinescribe.models.unet import UNet, kept_numbers
from kinescribe.ops import linear
from kinescribe.ops.kept import Keeps
from kinescribe.ops.slices import at_most

CONFIG = replace(
    UNET, width=32, multipliers=(1, 2), blocks_per_level=1, attention_levels=(True, False), head_dim=16,
    stem_heads=2, context_dim=24, groups=8,
)  # fmt: skip


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(0)
    made = UNet(CONFIG).eval().requires_grad_(False)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


def keep(unet: UNet) -> None:
    for module in unet.modules():
        if isinstance(module, Keeps):
            module.keep()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of the gated rows that were written beside a stream, on a device that kernels serve."""
    written: list[torch.Size] = []

    def gated(*given: torch.Tensor) -> torch.Tensor:
        if len(given) == 4:
            written.append(given[3].shape)
        return linear.linear_geglu(*given)

    monkeypatch.setattr("kinescribe.models.transformer.linear_geglu", gated)
    monkeypatch.setattr(network, "kernels_serve", lambda *_: True)
    return written


def asked(clips: int, texts: int) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(1)
    x, tokens = (torch.randn(*s, generator=generator) for s in ((clips, 4, 3, 4, 6), (clips * texts, 9, 24)))
    return x, torch.linspace(100, 300, clips), Conditioning(tokens=tokens)


@torch.inference_mode()
def answer(unet: UNet, clips: int = 1, texts: int = 2) -> torch.Tensor:
    return unet(*asked(clips, texts))


@pytest.mark.parametrize(("clips", "texts"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_kept_end_gives_the_numbers_of_both_layers(
    unet: UNet, ends: list[torch.Size], clips: int, texts: int
) -> None:
    expected = answer(unet, clips, texts)
    assert not ends
    keep(unet)
    torch.testing.assert_close(answer(unet, clips, texts), expected, rtol=1e-4, atol=1e-4)
    assert len(ends) == 8  # one block down, two up and the middle have two transformers each


@torch.inference_mode()
def test_what_the_encoder_leaves_is_not_written_to(unet: UNet, ends: list[torch.Size]) -> None:
    keep(unet)
    x, t, told = asked(1, 2)
    shared = unet.tell(t.repeat(2), told)
    middle, skips = unet.encode(x, shared, told)
    before = [part.clone() for part in (middle, *skips)]
    left = [middle, *skips]
    unet.decode(middle, skips, shared)
    assert ends and all(map(torch.equal, left, before))


def test_gradients_go_through_both_layers(unet: UNet, ends: list[torch.Size]) -> None:
    keep(unet)
    weight = unet.middle.temporal.project_out.weight.requires_grad_()
    unet(*asked(1, 2)).square().mean().backward()
    assert not ends and weight.grad is not None and weight.grad.abs().max() > 0


def test_nothing_is_kept_where_no_kernel_serves(unet: UNet) -> None:
    keep(unet)
    assert unet.middle.kept() == ()


def test_an_end_is_that_of_the_weights_as_they_are(unet: UNet, ends: list[torch.Size]) -> None:
    keep(unet)
    for module in unet.modules():
        if isinstance(module, Transformer):
            module.project_out.weight.mul_(2)
            module.layer.feed_forward.down.bias.add_(1)
    expected = answer(unet)
    assert not ends  # what is kept is of other weights
    keep(unet)
    torch.testing.assert_close(answer(unet), expected, rtol=1e-4, atol=1e-4)
    assert len(ends) == 8


def test_slices_take_both_layers(unet: UNet, ends: list[torch.Size]) -> None:
    expected = answer(unet)
    keep(unet)
    with at_most(20):
        torch.testing.assert_close(answer(unet), expected, rtol=1e-4, atol=1e-4)
    assert not ends


@pytest.mark.usefixtures("ends")
def test_what_is_kept_is_as_large_as_is_planned_for(unet: UNet) -> None:
    kept = [part for module in unet.modules() if isinstance(module, Keeps) for part in module.made()]
    large = sum(part.numel() for part in kept if len(part) > 1)
    assert large == kept_numbers(CONFIG)
