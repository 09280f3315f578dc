"""What modules keep beside their weights is that of the weights as they are."""

import copy

import pytest
import torch
from torch import Tensor, nn

from kinescribe.ops.kept import Keeps


class Doubled(Keeps):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.times = 0

    def sources(self) -> list[Tensor]:
        return [self.weight]

    def made(self) -> tuple[Tensor, ...]:
        self.times += 1
        return (2 * self.weight.detach(),)


def test_it_is_made_once_and_anew_in_the_same_memory_after_the_weight_was_written_to() -> None:
    module = Doubled()
    assert module.kept() is None and module.kept_at == ()
    module.keep()
    module.keep()
    assert module.times == 1
    (kept,), place = module.kept() or (), module.kept_at
    with torch.no_grad():
        module.weight.mul_(3)
    assert module.kept() is None
    module.keep()
    assert module.kept_at == place and torch.equal(kept, torch.full((3,), 6.0))


def test_it_goes_with_the_weight_and_on_request() -> None:
    module = Doubled()
    for go in (lambda: module.to(torch.float16), module.release):
        module.keep()
        assert module.kept() is not None
        go()
        assert module.kept() is None and module.kept_at == ()


def test_another_format_takes_other_memory() -> None:
    module = Doubled()
    module.keep()
    module.weight.data = module.weight.data.double()
    module.keep()
    (kept,) = module.kept() or ()
    assert kept.dtype == torch.float64


def test_a_copy_of_the_module_keeps_its_own() -> None:
    module = Doubled()
    module.keep()
    other = copy.deepcopy(module)
    assert other.kept_at == ()  # nobody would let go of it
    with torch.no_grad():
        other.weight.zero_()
    other.keep()
    assert torch.equal((module.kept() or ())[0], torch.full((3,), 2.0))
    assert torch.equal((other.kept() or ())[0], torch.zeros(3))


def test_nothing_is_kept_of_weights_that_count_no_changes() -> None:
    with torch.inference_mode():
        module = Doubled()
        module.keep()
    assert module.kept() is None and module.times == 0


def test_it_is_no_part_of_what_is_saved() -> None:
    module = Doubled()
    module.keep()
    assert list(module.state_dict()) == ["weight"]


@pytest.mark.parametrize("unfinished", ["sources", "made"])
def test_a_module_says_what_it_keeps(unfinished: str) -> None:
    with pytest.raises(NotImplementedError):
        getattr(Keeps(), unfinished)()
