"""Copies of a UNet's weights in 8 bits: which layers have one, renewed when weights change, gone without a trace."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from conftest import tiny_components
from kinescribe.errors import OptionError
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops import layer_norm, linear, linear_fp8
from kinescribe.ops.linear_fp8 import EndCopy, Rows8, in_eight_bits
from kinescribe.ops.tiles import ENDS
from kinescribe.perf import fp8
from kinescribe.perf.fp8 import (
    copies_of,
    copy_bytes,
    ends_of,
    forget,
    groups_of,
    normed_of,
    require_eight_bits,
)


@pytest.fixture
def unet() -> UNet:
    return tiny_components().unet


def answer(unet: UNet, *, eight_bits: bool) -> Tensor:
    g = torch.Generator().manual_seed(0)
    x, told = torch.randn(1, 4, 3, 4, 4, generator=g), Conditioning(tokens=torch.randn(1, 5, 16, generator=g))
    with torch.inference_mode():
        if not eight_bits:
            return unet(x, torch.tensor([500.0]), told)
        with in_eight_bits(copies_of(unet)):
            return unet(x, torch.tensor([500.0]), told)


def test_layers_that_read_a_layer_norm_have_copies_and_no_others(unet: UNet) -> None:
    names = {id(weight): name for name, weight in unet.named_parameters()}
    copied = {names[id(weight)] for group in groups_of(unet) for weight in group}
    read = ("attention1.q", "attention1.k", "attention1.v", "attention2.q", "attention2.k", "attention2.v")
    inside = {
        f"{name}.weight"
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and ".layer." in name and name.endswith((*read, "feed_forward.up"))
    }
    of_text = {
        name
        for name in inside
        if ".spatial.layer.attention2.k" in name or ".spatial.layer.attention2.v" in name
    }
    assert of_text and copied == inside - of_text


def test_what_reads_a_group_norm_has_copies_that_follow_the_norm_too(unet: UNet) -> None:
    names = {id(weight): name for name, weight in unet.named_parameters()}
    copied = {names[id(kernel)] for kernel, *_ in normed_of(unet)}
    ends = ("conv1.weight", "conv2.weight", "conv.weight", "project_in.weight")
    of_blocks = {name for name in names.values() if name.endswith(ends) and "resample" not in name}
    assert copied == of_blocks and len(copied) == 6 * len(unet.residuals) + 2 * len(unet.spatials) + 1
    stage = unet.middle.enter.temporal.stages[1]
    copy = copies_of(unet).of[stage.conv.weight]
    memory, before = copy.norm_scale.data_ptr(), copy.norm_scale.clone()
    with torch.inference_mode():
        stage.norm.weight.mul_(3)
        stage.norm.bias.mul_(3)
    assert copies_of(unet).of[stage.conv.weight] is copy and copy.norm_scale.data_ptr() == memory
    torch.testing.assert_close(copy.norm_scale, 3 * before)


def test_ends_of_widths_without_a_product_have_no_copies(unet: UNet) -> None:
    assert list(ends_of(unet)) == []
    with torch.device("meta"):
        wide = UNet(replace(unet.config, width=320, head_dim=64))
    assert len(list(ends_of(wide))) == 2 * len(wide.spatials)


def test_the_ends_of_transformers_have_copies_that_follow_all_they_are_made_of(
    unet: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fp8, "end_tile", lambda *_: ENDS[0])
    names = {id(weight): name for name, weight in unet.named_parameters()}
    ended = {names[id(out)] for out, *_ in ends_of(unet)}
    assert ended == {name for name in names.values() if "project_out.weight" in name and "stem" not in name}
    transformer = unet.middle.temporal
    with torch.inference_mode():
        transformer.project_out.weight.normal_()  # from zeros
        forward, norm = transformer.layer.feed_forward, transformer.layer.norm3
        parts = (forward.down.weight, forward.up.weight, forward.up.bias, norm.weight, norm.bias)
        for part in parts:
            copy = copies_of(unet).of[transformer.project_out.weight]
            assert isinstance(copy, EndCopy)
            before, memory = copy.factors.clone(), copy.numbers.data_ptr()
            scale = copy.scale.clone()
            part.mul_(3).add_(1)
            assert copies_of(unet).of[transformer.project_out.weight] is copy
            assert not torch.equal(copy.scale, scale) and copy.numbers.data_ptr() == memory
            assert torch.equal(copy.factors, before) == (part is forward.down.weight)
        scale = copy.scale.clone()
        transformer.project_out.weight.mul_(2)
        copies_of(unet)
        torch.testing.assert_close(copy.scale, 2 * scale)


def test_at_the_finest_of_several_levels_feed_forwards_alone_have_copies() -> None:
    unet = UNet(replace(tiny_components().unet.config, multipliers=(1, 2), attention_levels=(True, True)))
    finest = {
        id(m) for m in unet.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.weight.shape[1] == 16
    }
    groups = [id(weight) for group in groups_of(unet) for weight in group]
    narrow = [m for m in unet.modules() if id(m) in finest and id(m.weight) in groups]
    assert narrow and all(len(m.weight) == 8 * 16 for m in narrow)


def test_no_layer_brings_its_rows_into_eight_bits_by_itself(
    unet: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = answer(unet, eight_bits=True)

    def refused(x: Tensor) -> Rows8:
        raise AssertionError(x.shape)

    real = linear_fp8.rows8
    for module in (linear_fp8, linear):
        monkeypatch.setattr(module, "rows8", lambda x: x if isinstance(x, Rows8) else refused(x))
    assert layer_norm.rows8 is real and torch.equal(answer(unet, eight_bits=True), near)


def test_the_answer_is_near_and_afterwards_exact_again(unet: UNet) -> None:
    exact, near = answer(unet, eight_bits=False), answer(unet, eight_bits=True)
    assert 1e-5 < float((near - exact).norm() / exact.norm()) < 0.05
    assert torch.equal(answer(unet, eight_bits=False), exact)
    names = set(unet.state_dict())
    forget(unet)
    assert set(unet.state_dict()) == names == set(tiny_components().unet.state_dict())


def test_copies_are_kept_and_renewed_in_place_when_a_weight_is_written_to(unet: UNet) -> None:
    first = copies_of(unet)
    weight = unet.middle.temporal.layer.feed_forward.up.weight
    copy = first.of[weight]
    memory, before = copy.numbers.data_ptr(), copy.scales.clone()
    with torch.inference_mode():
        assert copies_of(unet) is first and torch.equal(copy.scales, before)
        weight.mul_(3)
    assert copies_of(unet) is first
    torch.testing.assert_close(copy.scales, 3 * before)
    assert copy.numbers.data_ptr() == memory


def test_any_weight_of_a_group_renews_its_copy(unet: UNet) -> None:
    attention = unet.middle.spatial.layer.attention1
    before = copies_of(unet).of[attention.q.weight].scales.clone()
    with torch.inference_mode():
        attention.v.weight.mul_(2)
    after = copies_of(unet).of[attention.q.weight].scales
    rows = len(attention.q.weight)
    assert torch.equal(after[: 2 * rows], before[: 2 * rows])
    torch.testing.assert_close(after[2 * rows :], 2 * before[2 * rows :])


def test_copies_follow_weights_that_were_made_for_inference() -> None:
    with torch.inference_mode():
        unet = tiny_components().unet
        for parameter in unet.parameters():
            parameter.data = parameter.clone()
        weight = unet.middle.temporal.layer.feed_forward.up.weight
        assert weight.is_inference()
        before = copies_of(unet).of[weight].scales.clone()
        weight.mul_(3)
        torch.testing.assert_close(copies_of(unet).of[weight].scales, 3 * before)


def test_another_number_format_gets_copies_of_its_own(unet: UNet) -> None:
    first = copies_of(unet)
    unet.bfloat16()
    assert copies_of(unet) is not first
    forget(unet)
    assert copies_of(unet) is not first


def test_the_bytes_of_copies_are_known_beforehand(unet: UNet) -> None:
    held = copies_of(unet).of.values()
    taken = sum(tensor.nbytes for copy in held for tensor in vars(copy).values())
    assert taken == copy_bytes(unet) == copy_bytes(unet.to("meta"))


def test_a_device_without_the_units_is_told_what_is_needed() -> None:
    with pytest.raises(OptionError, match="capability 8.9"):
        require_eight_bits(torch.device("cpu"), torch.float32)


def test_full_precision_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinescribe.perf.fp8.has_eight_bit_units", lambda _: True)
    with pytest.raises(OptionError, match="half precision"):
        require_eight_bits(torch.device("cuda"), torch.float32)
    require_eight_bits(torch.device("cuda"), torch.float16)
