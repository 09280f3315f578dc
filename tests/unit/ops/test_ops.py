"""Every fast operation equals its plain reference, in float64 closely and in memory layout exactly."""

from typing import Literal

import pytest
import torch
from einops import rearrange

from kinescribe.ops import attention as attention_module
from kinescribe.ops.attention import (
    attention,
    attention_by_products,
    attention_reference,
    frame_attention,
    frame_attention_reference,
)
from kinescribe.ops.group_norm import (
    GroupNorm,
    group_norm,
    group_norm_by_channel,
    group_norm_reference,
)
from kinescribe.ops.temporal import (
    TemporalConv,
    channels_last,
    clips,
    pictures,
    temporal_conv_reference,
    windows,
)


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_attention_equals_its_reference() -> None:
    q, k, v = double(2, 7, 12), double(2, 5, 12), double(2, 5, 12)
    torch.testing.assert_close(attention(q, k, v, 3), attention_reference(q, k, v, 3))


def test_causal_attention_does_not_see_later_tokens() -> None:
    x = double(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1
    before = attention(x, x, x, 2, causal=True)[:, :4]
    after = attention(changed, changed, changed, 2, causal=True)[:, :4]
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("queries", [1, 3, 7, 2048])
@torch.inference_mode()
def test_attention_by_products_equals_its_reference(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "QUERIES", queries)
    q, k, v = double(2, 7, 12), double(2, 5, 12) + 1, double(2, 5, 12) - 1
    torch.testing.assert_close(attention_by_products(q, k, v), attention_reference(q, k, v, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_attention_by_products_takes_scores_that_float16_cannot_hold(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in (double(2, 50, 512) + 12, double(2, 60, 512) + 12, double(2, 60, 512)))
    assert (q @ k.mT).half().isinf().all()
    found, exact = attention_by_products(q, k, v), attention_reference(q.double(), k.double(), v.double(), 1)
    assert found.dtype == dtype
    assert (found.double() - exact).norm() < torch.finfo(dtype).eps * exact.norm()


@torch.inference_mode()
def test_a_wide_head_goes_by_products_and_a_causal_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "wide_head_pays", lambda *_: True)
    monkeypatch.setattr(attention_module, "attention_by_products", lambda q, _k, _v: q + 1)
    x = double(1, 6, 8)
    assert torch.equal(attention(x, x, x, 1), x + 1)
    assert not torch.equal(attention(x, x, x, 1, causal=True), x + 1)


@pytest.mark.parametrize("frames", [1, 16, 70])
def test_frame_attention_equals_its_reference(frames: int) -> None:
    q, k, v = double(2, frames, 3, 8), double(2, frames, 3, 8) + 1, double(2, frames, 3, 8) - 1
    torch.testing.assert_close(frame_attention(q, k, v, 2), frame_attention_reference(q, k, v, 2))


def test_frame_attention_reads_parts_of_one_tensor_as_it_reads_copies_of_them() -> None:
    parts = double(2, 5, 3, 24).chunk(3, -1)
    assert torch.equal(frame_attention(*parts, 2), frame_attention(*(x.contiguous() for x in parts), 2))


@pytest.mark.parametrize("silu", [False, True])
def test_group_norm_equals_its_reference_and_stays_channels_last(silu: bool) -> None:
    x = double(2, 12, 5, 3).contiguous(memory_format=torch.channels_last)
    weight, bias = double(12), double(12) + 1
    out = group_norm(x, 4, weight, bias, 1e-5, silu=silu)
    torch.testing.assert_close(out, group_norm_reference(x, 4, weight, bias, 1e-5, silu=silu))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_group_norm_of_one_clip_goes_by_its_channels_not_by_the_step_to_a_next() -> None:
    x = double(2, 12, 40, 32).float().contiguous(memory_format=torch.channels_last)[1].unsqueeze(0)
    assert x.stride() == (12, 1, 384, 12)  # what the library takes for no layout it knows
    weight, bias = double(12).float(), double(12).float() + 1
    out = group_norm(x, 4, weight, bias, 1e-5, silu=False)
    torch.testing.assert_close(out, group_norm_reference(x, 4, weight, bias, 1e-5, silu=False))
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("pixels", [8, 48])  # a side: below and above where the library's kernel is fast
def test_group_norm_in_half_precision_rounds_and_no_more(pixels: int) -> None:
    x = double(2, 12, pixels, pixels).bfloat16().contiguous(memory_format=torch.channels_last)
    weight, bias = double(12).bfloat16(), double(12).bfloat16()
    out = group_norm(x, 4, weight, bias, 1e-5, silu=False)
    expected = group_norm_reference(x.double(), 4, weight.double(), bias.double(), 1e-5, silu=False)
    torch.testing.assert_close(out.double(), expected, atol=0.02, rtol=0.02)
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("silu", [False, True])
def test_group_norm_by_channel_equals_its_reference_and_keeps_the_layout(silu: bool) -> None:
    x = (double(2, 12, 5, 3).float() + 3).contiguous(memory_format=torch.channels_last)
    weight, bias = double(12).float(), double(12).float() + 1
    out = group_norm_by_channel(x, 4, weight, bias, 1e-5, silu=silu)
    expected = group_norm_reference(x.double(), 4, weight.double(), bias.double(), 1e-5, silu=silu)
    torch.testing.assert_close(out.double(), expected, atol=2e-5, rtol=2e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert group_norm_by_channel(x.bfloat16(), 4, weight, bias, 1e-5, silu=silu).dtype == torch.bfloat16


def test_group_norm_adds_a_shift_that_several_pictures_share() -> None:
    x, shift, weight, bias = double(6, 12, 5, 3), double(2, 12), double(12), double(12) + 1
    shifted = x + shift[[0, 0, 0, 1, 1, 1], :, None, None]
    expected = group_norm_reference(shifted, 4, weight, bias, 1e-5, silu=True)
    torch.testing.assert_close(group_norm(x, 4, weight, bias, 1e-5, silu=True, shift=shift), expected)


def test_group_norm_does_not_change_its_input() -> None:
    x = double(1, 4, 2, 2)
    before = x.clone()
    with torch.inference_mode():
        GroupNorm(2, 4, eps=1e-6, silu=True).double()(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("frames", [1, 2, 16])
def test_temporal_convolution_equals_the_three_dimensional_one(frames: int) -> None:
    x = channels_last(double(2, 6, frames, 3, 5))
    conv = TemporalConv(6).double()
    flat = conv(rearrange(x, "b c f h w -> b c f (h w)"))
    out = rearrange(flat, "b c f (h w) -> b c f h w", h=3)
    torch.testing.assert_close(out, temporal_conv_reference(x, conv.weight, conv.bias))


@pytest.mark.parametrize("laid", [1, 2])
@pytest.mark.parametrize(("frames", "pixels"), [(1, 3), (2, 1), (5, 6)])
def test_temporal_convolution_is_a_product_of_windows(frames: int, pixels: int, laid: Literal[1, 2]) -> None:
    conv = TemporalConv(4)
    x = torch.randn(2, 4, frames, pixels)
    with torch.no_grad():
        found = conv.over(windows(x, laid))
        expected = conv(x) - conv.bias[:, None, None]
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_folding_a_channels_last_clip_moves_no_bytes() -> None:
    x = channels_last(double(2, 6, 4, 3, 5))
    assert pictures(x).data_ptr() == x.data_ptr()
    assert rearrange(x, "b c f h w -> b c f (h w)").data_ptr() == x.data_ptr()
    assert rearrange(pictures(x), "n c h w -> n (h w) c").data_ptr() == x.data_ptr()
    assert torch.equal(clips(pictures(x), 2), x)


def test_a_group_of_one_number_is_normalised_to_the_bias() -> None:
    norm = GroupNorm(4, 4, eps=1e-5)
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.randn(1, 4, 1, 1))[0, :, 0, 0], norm.bias.data, atol=1e-3, rtol=0)
