"""Weights that wait elsewhere: no bit of a result changes, and nothing that is away is used."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from conftest import tiny_components
from kinescribe.models import blocks
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops.convolution import Waiting
from kinescribe.ops.packed import behind_each_other
from kinescribe.ops.parts import Parts
from kinescribe.perf import offload
from kinescribe.perf.offload import Pack, Streamed, resident_bytes

CPU = torch.device("cpu")


@pytest.fixture
def unet() -> UNet:
    unet = tiny_components().unet
    unet.lay_together()
    return unet


def answer(unet: UNet, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    x, tokens = torch.randn(1, 4, 3, 4, 4, generator=draw), torch.randn(2, 7, 16, generator=draw)
    with torch.inference_mode():
        return unet(x, torch.tensor([500]), Conditioning(tokens=tokens))


def layers(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))


def addresses(network: nn.Module) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in network.parameters()}


def test_a_network_comes_and_goes_whole_with_the_same_numbers(unet: UNet) -> None:
    before, own = answer(unet), addresses(unet)
    pack = Pack(unet.parameters(), pinned=False)
    waiting = addresses(unet)
    assert len(waiting) == 1 and not waiting & own
    assert torch.equal(answer(unet), before)
    pack.bring(CPU)
    assert len(addresses(unet)) == 1 and not addresses(unet) & waiting
    assert torch.equal(answer(unet), before)
    pack.leave()
    assert addresses(unet) == waiting
    assert torch.equal(answer(unet), before)


def test_weights_that_lie_together_stay_together(unet: UNet) -> None:
    look = unet.stem_temporal.layer.attention1
    with torch.inference_mode():
        assert behind_each_other([look.q.weight, look.k.weight, look.v.weight]) is not None
        Pack(unet.parameters(), pinned=False).bring(CPU)
        assert behind_each_other([look.q.weight, look.k.weight, look.v.weight]) is not None


def test_what_is_written_to_weights_on_the_device_stays(unet: UNet) -> None:
    pack = Pack(unet.parameters(), pinned=False)
    pack.bring(CPU)
    with torch.inference_mode():  # as adapters do
        unet.head.weight.copy_(unet.head.weight + 1)
    after = answer(unet)
    pack.leave()
    assert torch.equal(answer(unet), after)
    pack.bring(CPU)
    assert torch.equal(answer(unet), after)


def test_another_number_format_is_seen(unet: UNet) -> None:
    pack = Pack(unet.parameters(), pinned=False)
    assert pack.fits()
    unet.half()
    assert not pack.fits()


def test_block_by_block_gives_the_same_bits_pass_after_pass(unet: UNet) -> None:
    before = [answer(unet, seed) for seed in range(3)]
    streamed = Streamed(unet, CPU)
    streamed.begin()
    assert all(torch.equal(answer(unet, seed), before[seed]) for seed in range(3))
    streamed.end()
    assert torch.equal(answer(unet), before[0])
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in unet.modules())


def test_no_layer_computes_with_weights_that_are_away(unet: UNet) -> None:
    streamed = Streamed(unet, CPU)
    streamed.begin()
    away = {pack.host.untyped_storage().data_ptr() for pack in (*streamed._packs, streamed._rest)}
    used: list[int] = []
    for layer in layers(unet):
        layer.register_forward_pre_hook(lambda m, _: used.append(m.weight.untyped_storage().data_ptr()))
    answer(unet)
    assert len(used) > 30
    assert not set(used) & away


def test_a_pass_that_fails_leaves_the_next_one_in_order(unet: UNet) -> None:
    before = answer(unet)
    Streamed(unet, CPU).begin()

    def fail(*_: object) -> None:
        raise MemoryError

    handle = unet.middle.leave.register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        answer(unet)
    handle.remove()
    assert torch.equal(answer(unet), before)


def test_two_units_and_what_is_no_unit_are_on_the_device(unet: UNet) -> None:
    streamed = Streamed(unet, CPU)
    streamed.begin()
    here = sum(len(buffer) for buffer in streamed._buffers) + len(streamed._rest.host)
    assert resident_bytes(unet) == pytest.approx(here, rel=0.1)  # each tensor begins at a round address
    assert resident_bytes(unet) < 0.7 * sum(p.nbytes for p in unet.parameters())


def test_a_pack_of_some_takes_nothing_of_the_others_in_a_common_storage(unet: UNet) -> None:
    before = answer(unet)
    whole = Pack(unet.parameters(), pinned=False)  # now one storage holds all
    part = Pack(unet.down[0].parameters(), pinned=False)
    own = sum(parameter.nbytes for parameter in unet.down[0].parameters())
    assert own <= len(part.host) < 1.2 * own < len(whole.host) / 2
    # layers that were one product with others are no longer
    assert torch.allclose(answer(unet), before, atol=1e-5)


def test_block_by_block_after_all_at_once_takes_no_more_than_before(unet: UNet) -> None:
    before, alone = answer(unet), Streamed(tiny_components().unet, CPU)
    Pack(unet.parameters(), pinned=False)
    streamed = Streamed(unet, CPU)
    assert streamed.host_bytes < 1.1 * alone.host_bytes
    streamed.begin()
    assert torch.equal(answer(unet), before)
    streamed.end()
    assert torch.equal(answer(unet), before)


def test_no_unit_leaves_a_bias_in_memory_that_is_about_to_be_written(
    unet: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results in parts, as GPUs have them; their biases lie where a unit's buffer begins, which is written first."""

    def in_parts(x: Tensor, y: Tensor, waiting: Waiting, ahead: Waiting = None) -> Parts:
        assert waiting is not None
        return Parts(x, y, waiting, ahead, beside=False)

    def without_bias(x: Tensor, conv: nn.Conv2d) -> tuple[Tensor, Waiting]:
        return nn.functional.conv2d(x, conv.weight, None, conv.stride, conv.padding), conv.bias[None]  # type: ignore[index]

    monkeypatch.setattr(blocks, "summed", in_parts)
    monkeypatch.setattr(blocks, "convolve", without_bias)
    before = answer(unet)
    parameters = offload._divided(unet)
    monkeypatch.setattr(
        offload, "_divided", lambda _: ([(unit, own[::-1]) for unit, own in parameters[0]], parameters[1])
    )
    streamed = Streamed(unet, CPU)
    streamed.begin()
    kinds: list[type] = []
    for residual in unet.residuals:
        residual.register_forward_hook(lambda *given: kinds.append(type(given[-1])))
    torch.testing.assert_close(answer(unet), before)
    assert kinds == [Tensor] * len(unet.residuals)
    streamed.end()
