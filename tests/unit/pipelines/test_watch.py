import pytest
import torch
from torch import Tensor, nn

from conftest import tiny_components
from kinescribe.errors import NumbersError
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops.parts import Parts, whole
from kinescribe.ops.temporal import clips, pictures
from kinescribe.pipelines.watch import Call, Watched, first_bad_module

GOOD, BAD = torch.zeros(2), torch.tensor([0.0, torch.inf])


@pytest.fixture
def unet() -> UNet:
    return tiny_components().unet


def asked(x: float = 0.0) -> Call:
    return torch.full((1, 4, 2, 4, 4), x), torch.ones(1), Conditioning(tokens=torch.ones(1, 3, 16))


def test_finite_latents_pass(unet: UNet) -> None:
    watched = Watched(unet, unet, 2)
    for step in (1, 2):
        watched.after(step, GOOD)
    watched.settle()


def test_a_bad_step_ends_the_next_one_and_is_named(unet: UNet) -> None:
    watched = Watched(unet, unet, 3)
    watched.after(1, GOOD)
    watched.after(2, BAD)
    with pytest.raises(NumbersError, match="step 2 of 3 "):
        watched.after(3, GOOD)


def test_the_last_step_is_settled_for_itself(unet: UNet) -> None:
    watched = Watched(unet, unet, 1)
    watched.after(1, BAD)
    with pytest.raises(NumbersError, match="step 1 of 1 .*first in the sampler"):
        watched.settle()
    watched.settle()  # said once


def test_the_module_is_found_in_the_calls_of_the_bad_step_not_of_the_one_after(unet: UNet) -> None:
    watched = Watched(unet, lambda x, _t, _told: x, 2)
    with torch.inference_mode():
        unet.up[0].blocks[0].residual.conv2.bias[0] = torch.nan
        watched(*asked())
        watched.after(1, BAD)
        watched(*asked(torch.nan))  # what a bad step leaves is bad from the first module on
        with pytest.raises(NumbersError, match=r"step 1 of 2 .*up\.0\.blocks\.0\.residual\.conv2\)"):
            watched.after(2, BAD)


def test_what_a_module_gives_in_parts_is_looked_at_too(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = unet.middle.forward

    class InParts(nn.Module):
        def forward(self, x: Tensor) -> Parts:
            return Parts(pictures(x), pictures(x) / 0, beside=False)

    unet.middle.inside = InParts()  # type: ignore[assignment]
    monkeypatch.setattr(
        unet.middle, "forward", lambda *given: clips(whole(unet.middle.inside(middle(*given))), 1)
    )  # type: ignore[operator]
    with torch.inference_mode():
        assert first_bad_module(unet, [asked()]) == "middle.inside"
