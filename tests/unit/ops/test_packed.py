import pytest
import torch
from torch import nn

from kinescribe.ops.packed import behind_each_other, lay_behind, lay_together, together


def layers(*, bias: bool = True) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(6, size, bias=bias) for size in (4, 8, 3)]


@pytest.mark.parametrize("bias", [True, False])
def test_together_each_gives_what_it_gives_alone(bias: bool) -> None:
    apart, x = layers(bias=bias), torch.randn(2, 5, 6)
    wanted = [layer(x) for layer in apart]
    lay_together(apart)
    with torch.inference_mode():
        found = together(x, apart)
    assert found[0].untyped_storage().data_ptr() == found[2].untyped_storage().data_ptr()  # of one product
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("behind", [True, False])
def test_more_is_added_to_each(*, packed: bool, behind: bool) -> None:
    apart, x = layers(), torch.randn(2, 5, 6)
    more = [nn.Parameter(torch.randn(layer.out_features)) for layer in apart]
    wanted = [layer(x) + vector for layer, vector in zip(apart, more, strict=True)]
    if packed:
        lay_together(apart)
    if behind:
        lay_behind(more)
    with torch.inference_mode():
        for one, other in zip(together(x, apart, more), wanted, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_each_stays_a_parameter_that_can_be_read_and_written() -> None:
    apart = layers()
    before = [layer.weight.clone() for layer in apart]
    lay_together(apart)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(apart, before, strict=True))
    with torch.inference_mode():
        apart[1].weight.zero_()
        whole = behind_each_other([layer.weight for layer in apart])
        assert whole is not None and not whole[4:12].any() and whole[:4].any() and whole[12:].any()


@pytest.mark.parametrize("change", ["moved", "one replaced", "other order", "with gradients"])
def test_weights_that_lie_elsewhere_are_taken_one_by_one(change: str) -> None:
    apart, x = layers(), torch.randn(5, 6)
    lay_together(apart)
    if change == "moved":
        apart = [layer.double() for layer in apart]
        x = x.double()
    if change == "one replaced":
        apart[1].weight.data = torch.ones(8, 6)
    if change == "other order":
        apart = apart[::-1]
    with torch.set_grad_enabled(change == "with gradients"):
        assert behind_each_other([layer.weight for layer in apart]) is None
        for one, layer in zip(together(x, apart), apart, strict=True):
            assert torch.equal(one, layer(x))


def test_neighbours_in_memory_of_two_storages_are_not_joined() -> None:
    with torch.inference_mode():
        whole = torch.zeros(4, 4)
        first, second = whole[:2], torch.from_numpy(whole.numpy()[2:])
        assert second.data_ptr() == first.data_ptr() + 32
        assert behind_each_other([first, second]) is None
