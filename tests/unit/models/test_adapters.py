from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from kinescribe.errors import NumbersError, OptionError
from kinescribe.models.adapters import Adapter, Adapters, LowRank, changed


def low_rank(name: str, out: int, into: int, *, seed: int, start: int = 0, size: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        network="net",
        weight=name,
        rows=(start, start + out),
        down=torch.randn(2, into, generator=generator) * size,
        up=torch.randn(out, 2, generator=generator) * size,
        scale=0.5,
    )


def adapter(name: str, changes: Iterable[LowRank]) -> Adapter:
    return Adapter(name=name, file=f"{name}.safetensors", sha256="0" * 64, changes=tuple(changes))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Conv2d(4, 5, 3)).requires_grad_(False)


@pytest.fixture
def adapters(net: nn.Module) -> Adapters:
    return Adapters({"net": net})


FIRST = adapter("first", [low_rank("0.weight", 9, 6, seed=1), low_rank("1.weight", 5, 36, seed=2)])
SECOND = adapter("second", [low_rank("0.weight", 3, 6, seed=3, start=6)])


def copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(net: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_the_change_is_alpha_over_rank_times_up_times_down(net: nn.Module, adapters: Adapters) -> None:
    before, change = copied(net), FIRST.changes[1]
    adapters.add(FIRST, 3.0)
    expected = before["1.weight"] + 1.5 * (change.up @ change.down).reshape(5, 4, 3, 3)
    torch.testing.assert_close(net.state_dict()["1.weight"], expected)
    assert torch.equal(net.state_dict()["0.bias"], before["0.bias"])


def test_rows_of_a_weight_change_alone(net: nn.Module, adapters: Adapters) -> None:
    before = copied(net)["0.weight"]
    adapters.add(SECOND, 1.0)
    now = net.state_dict()["0.weight"]
    assert torch.equal(now[:6], before[:6])
    assert not torch.equal(now[6:], before[6:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_taking_off_restores_every_bit(net: nn.Module, adapters: Adapters, dtype: torch.dtype) -> None:
    net.to(dtype)
    before = copied(net)
    adapters.add(FIRST, 0.7)
    adapters.add(SECOND, -2.0)
    adapters.set_scales({"first": 1e-3})
    adapters.remove("first", "second")
    assert equal(net, before)
    assert adapters.scales == {}


def test_removing_one_leaves_what_the_other_alone_makes(net: nn.Module, adapters: Adapters) -> None:
    other = nn.Sequential(nn.Linear(6, 9), nn.Conv2d(4, 5, 3)).requires_grad_(False)
    other.load_state_dict(net.state_dict())
    adapters.add(FIRST, 1.0)
    adapters.add(SECOND, 1.0)
    adapters.remove("first")
    Adapters({"net": other}).add(SECOND, 1.0)
    assert equal(net, copied(other))


def test_several_are_the_sum_of_their_changes(net: nn.Module, adapters: Adapters) -> None:
    before = copied(net)["0.weight"]
    adapters.add(FIRST, 2.0)
    adapters.add(SECOND, 3.0)
    a, b = FIRST.changes[0], SECOND.changes[0]
    expected = before + 1.0 * a.up @ a.down
    expected[6:] += 1.5 * b.up @ b.down
    torch.testing.assert_close(net.state_dict()["0.weight"], expected)


def test_scale_0_is_the_model_itself(net: nn.Module, adapters: Adapters) -> None:
    before = copied(net)
    adapters.add(FIRST, 0.0)
    assert equal(net, before)
    adapters.set_scales({"first": 1.0})
    assert not equal(net, before)
    adapters.set_scales({"first": 0.0})
    assert equal(net, before)
    assert adapters.scales == {"first": 0.0}


def test_a_weight_keeps_its_place_in_memory(net: nn.Module, adapters: Adapters) -> None:
    weight = net.get_parameter("0.weight")
    place = weight.data_ptr()
    adapters.add(FIRST, 1.0)
    adapters.remove("first")
    assert net.get_parameter("0.weight") is weight
    assert weight.data_ptr() == place


def test_weights_that_are_views_of_one_storage_change_in_it(net: nn.Module, adapters: Adapters) -> None:
    linear = net.get_parameter("0.weight")
    whole = torch.cat([linear.detach(), torch.zeros_like(linear)])
    linear.data = whole[:9]
    adapters.add(FIRST, 1.0)
    assert torch.equal(whole[:9], linear)
    assert not whole[9:].any()


def test_networks_may_change_their_format_meanwhile(net: nn.Module, adapters: Adapters) -> None:
    expected = copied(net)["0.weight"].to(torch.bfloat16)
    adapters.add(FIRST, 1.0)
    net.to(torch.bfloat16)
    adapters.remove("first")
    assert torch.equal(net.state_dict()["0.weight"], expected)


def test_numbers_too_large_leave_everything_as_it_was(net: nn.Module, adapters: Adapters) -> None:
    net.half()
    adapters.add(SECOND, 1.0)
    before = copied(net)
    with pytest.raises(NumbersError, match="1.weight holds numbers too large"):
        adapters.add(adapter("huge", [low_rank("1.weight", 5, 36, seed=2, size=1e3)]), 1.0)
    assert equal(net, before)
    assert adapters.scales == {"second": 1.0}


def test_settled_adapters_are_the_model(net: nn.Module, adapters: Adapters) -> None:
    adapters.add(FIRST, 1.0)
    now = copied(net)
    adapters.settle()
    assert adapters.scales == {}
    assert equal(net, now)


def test_names_and_scales_are_checked(adapters: Adapters) -> None:
    adapters.add(FIRST, 1.0)
    with pytest.raises(OptionError, match="'first' already"):
        adapters.add(FIRST, 1.0)
    with pytest.raises(OptionError, match="'third': there is first"):
        adapters.remove("third")
    with pytest.raises(OptionError, match="'third'"):
        adapters.set_scales({"third": 1.0})
    for scale in (float("nan"), float("inf")):
        with pytest.raises(OptionError, match="finite"):
            adapters.set_scales({"first": scale})


def test_a_kernel_that_is_there_twice_is_averaged() -> None:
    down, up = torch.randn(6, 12), torch.randn(15, 6)  # rank 2, 4 channels to 5, three frames
    change = LowRank(network="net", weight="w", rows=(0, 5), down=down, up=up, scale=1.0, averaged=True)
    weight = changed(torch.zeros(5, 4, 3, 1), [(change, 1.0)])
    torch.testing.assert_close(weight, (up @ down).view(5, 4, 3, 3, 1).mean(-2))
