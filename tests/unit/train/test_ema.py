import torch
from torch import nn

from kinescribe.train.ema import Ema


def test_the_average_follows_with_its_decay() -> None:
    source = nn.Linear(2, 2)
    ema = Ema(source, decay=0.5)
    before = ema.module.weight.clone()
    with torch.no_grad():
        source.weight.add_(1.0)
    ema.update(10_000)
    torch.testing.assert_close(ema.module.weight, before + 0.5)


def test_the_first_updates_follow_faster() -> None:
    source = nn.Linear(2, 2)
    ema = Ema(source, decay=0.999)
    before = ema.module.weight.clone()
    with torch.no_grad():
        source.weight.add_(1.0)
    ema.update(0)
    torch.testing.assert_close(ema.module.weight, before + 0.9)


def test_the_average_takes_no_gradients_and_is_in_evaluation_mode() -> None:
    ema = Ema(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), decay=0.9)
    assert not ema.module.training
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


def test_frozen_weights_stay_as_they_are() -> None:
    source = nn.Linear(2, 2)
    source.weight.requires_grad_(False)
    ema = Ema(source, decay=0.5)
    before = ema.module.weight.clone()
    with torch.no_grad():
        source.bias.add_(1.0)
        source.weight.add_(1.0)
    ema.update(10_000)
    assert torch.equal(ema.module.weight, before)
    assert not torch.equal(ema.module.bias, source.bias - 1.0)
