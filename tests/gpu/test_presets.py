"""Presets on a GPU: 8-bit products against the plain ones, and recorded parts of a pass against plain passes."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import needs_taps, tiny_components
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops.convolution import add
from kinescribe.ops.ending import end_copied, end_copy_for, end_onto, gated_for
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.layer_norm import LayerNorm
from kinescribe.ops.linear import geglu_reference, linear_geglu
from kinescribe.ops.linear_fp8 import (
    Copies,
    Rows8,
    copied,
    in_eight_bits,
    linear_fp8,
    quantise_rows,
    quantise_rows_reference,
)
from kinescribe.ops.normed_convolution import kernel_copied, normed_convolution
from kinescribe.ops.normed_linear import linear_behind, norm_before
from kinescribe.ops.packed import together
from kinescribe.ops.select import has_eight_bit_units, products_serve
from kinescribe.ops.tiles import ENDS, GATED_FP8, GATED_FP8_NARROW, linear_tile_fp8
from kinescribe.perf.fp8 import copies_of
from kinescribe.perf.graph import Recorder
from kinescribe.perf.reuse import rest, whole

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
needs_units = pytest.mark.skipif(
    not (torch.cuda.is_available() and has_eight_bit_units(torch.device("cuda"))),
    reason="needs units for 8-bit floating-point numbers",
)
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@needs_units
@HALF
@pytest.mark.parametrize("shape", [(32768, 320), (77, 1280), (5, 5120), (1, 64)])
def test_the_kernel_gives_the_numbers_of_the_plain_version(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, device="cuda").to(dtype)
    x[0, 0] = 300.0
    x[-1] = 0
    found, scales = quantise_rows(x)
    wanted, wanted_scales = quantise_rows_reference(x)
    torch.testing.assert_close(scales, wanted_scales, rtol=1e-6, atol=0)
    assert torch.equal(found.float(), wanted.float())


@needs_units
@HALF
@pytest.mark.parametrize(
    ("m", "n", "k"), [(32768, 960, 320), (2048, 1280, 5120), (100, 10240, 1280), (1, 64, 64)]
)
@pytest.mark.parametrize("biased", [False, True])
def test_the_product_of_the_units_is_that_of_the_same_numbers(
    m: int, n: int, k: int, biased: bool, dtype: torch.dtype
) -> None:
    x, weight = torch.randn(m, k, device="cuda").to(dtype), torch.randn(n, k, device="cuda").to(dtype)
    bias = torch.randn(n, device="cuda").to(dtype) if biased else None
    copy = copied([weight])
    found = linear_fp8(x, copy, bias)
    numbers, scales = quantise_rows_reference(x)
    wanted = (numbers.double() * scales) @ (copy.numbers.double() * copy.scales).t()
    wanted = wanted if bias is None else wanted + bias
    assert found.dtype == dtype
    assert float((found.double() - wanted).norm() / wanted.norm()) < 8e-3


@needs_units
@HALF
@pytest.mark.parametrize("shape", [(2, 16384, 320), (5, 77, 64), (8192, 640), (3, 1280)])
@torch.inference_mode()
def test_a_norm_in_eight_bits_has_the_numbers_of_the_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    norm, reader = (
        LayerNorm(shape[-1]).to("cuda", dtype),
        torch.randn(64, shape[-1], device="cuda", dtype=dtype),
    )
    norm.weight.normal_()
    x, y = (torch.randn(shape, device="cuda").add_(1).to(dtype) for _ in "xy")
    waiting, ahead = torch.randn(2, shape[-1], device="cuda").to(dtype)
    plain = norm(x), *norm.added(x, (y, waiting), ahead)
    with in_eight_bits(Copies({reader: copied([reader])})):
        alone, (total, behind) = norm.before(reader, x), norm.added(x, (y, waiting), ahead, before=reader)
    assert torch.equal(total, plain[1])
    for found, wanted in ((alone, plain[0]), (behind, plain[2])):
        assert isinstance(found, Rows8) and isinstance(wanted, torch.Tensor) and found.dtype == dtype
        # two kernels, whose sums may go in another order: few numbers fall on the other side of a half
        numbers, scales = quantise_rows_reference(wanted)
        torch.testing.assert_close(found.scales, scales, rtol=1e-2, atol=0)
        near = numbers.double() * scales
        assert float((found.numbers.double() * found.scales - near).norm() / near.norm()) < 1e-2


@needs_units
@HALF
@pytest.mark.parametrize(
    ("m", "width"), [(32768, 320), (8192, 640), (2048, 1280), (512, 1280), (32749, 320), (2001, 1280)]
)
@torch.inference_mode()
def test_products_behind_a_norm_are_those_of_the_same_numbers(m: int, width: int, dtype: torch.dtype) -> None:
    from kinescribe.ops import linear_fp8_triton

    x, bias = torch.randn(m, width, device="cuda"), torch.randn(8 * width, device="cuda").to(dtype)
    x = (x * 10 ** torch.rand(m, 1, device="cuda")).to(dtype)
    up = torch.randn(8 * width, width, device="cuda").mul_(width**-0.5).to(dtype)
    layers = [torch.nn.Linear(width, width, bias=False, device="cuda", dtype=dtype) for _ in range(3)]
    copies = Copies({up: copied([up]), layers[0].weight: copied([layer.weight for layer in layers])})
    rows = Rows8(*quantise_rows(x), dtype)
    with in_eight_bits(copies):
        gated, looked = linear_geglu(rows, up, bias), torch.cat(together(rows, layers), -1)
    exact = rows.numbers.double() * rows.scales

    def error(found: torch.Tensor, weight: torch.Tensor, *, gate: bool) -> float:
        copy = copies.of[weight]
        wanted = exact @ (copy.numbers.double() * copy.scales).t()
        wanted = geglu_reference(wanted + bias) if gate else wanted
        assert found.dtype == dtype
        # row by row: their sizes differ by more than a bound would see
        return float(((found.double() - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max())

    assert error(gated, up, gate=True) < 2e-2 and error(looked, layers[0].weight, gate=False) < 2e-2
    if products_serve(x):
        assert linear_tile_fp8(m, 8 * width, width) is not None or m < 1024
        for tile in (GATED_FP8, GATED_FP8_NARROW):
            if width % tile.k == 0:
                out = x.new_full((m, 5 * width), 7.0)
                linear_fp8_triton.linear_gated(
                    rows.numbers, rows.scales, copies.of[up].numbers, copies.of[up].scales, bias, tile,
                    out[:, width:],
                )  # fmt: skip
                assert error(out[:, width:], up, gate=True) < 2e-2 and bool((out[:, :width] == 7).all())


@needs_taps
@HALF
@pytest.mark.parametrize(("m", "c"), [(32768, 320), (8192, 640), (2048, 1280), (16301, 320), (77, 640)])
@torch.inference_mode()
def test_the_end_of_a_transformer_in_eight_bits(m: int, c: int, dtype: torch.dtype) -> None:
    from kinescribe.ops import linear_fp8_triton

    norm, up = LayerNorm(c).to("cuda", dtype), nn.Linear(c, 8 * c).to("cuda", dtype)
    down, out = nn.Linear(4 * c, c).to("cuda", dtype), nn.Linear(c, c).to("cuda", dtype)
    norm.weight.normal_()
    norm.bias.normal_()
    up.weight.mul_(10 ** torch.randn(8 * c, 1, device="cuda").mul_(0.3))
    end = end_copied(out.weight, down.weight, up.weight, up.bias, norm.weight, norm.bias)
    clip, stream = (torch.randn(1, m, c, device="cuda").to(dtype) for _ in range(2))
    with in_eight_bits(Copies({out.weight: end, up.weight: copied([up.weight])})):
        rows, chosen = norm.before(up.weight, stream), end_copy_for(m, up.weight, out.weight)
        assert isinstance(rows, Rows8) and (chosen is end) == (m > 1000)
        inside = linear_geglu(rows, up.weight, up.bias)
        wide = inside.float() * end.factors
        for tile in ENDS:
            found = clip.clone()
            eighths = wide.to(torch.float8_e4m3fn)
            linear_fp8_triton.linear_joined(
                found[0], stream[0], eighths[0], out.weight, end.numbers, end.scale, tile
            )
            added = stream.double() @ out.weight.double().t()
            added += end.scale.double() * (eighths.double() @ end.numbers.double().t())
            wanted = clip.double() + added
            assert float((found.double() - wanted).norm() / added.norm()) < 2e-2
        if chosen is None:
            return
        gated = gated_for(chosen, rows, up)
        assert gated.dtype == torch.float8_e4m3fn and float(wide.abs().max()) < 448
        assert float((gated.float() - wide).norm() / wide.norm()) < 0.04
        before, memory = clip.double(), clip.data_ptr()
        found = end_onto(clip, stream, gated, out.weight, chosen)
    inside = linear_geglu(norm(stream), up.weight, up.bias).double()
    added = (stream.double() + inside @ down.weight.double().t()) @ out.weight.double().t()
    assert found.data_ptr() == memory and found.dtype == dtype
    assert float((found.double() - before - added).norm() / added.norm()) < 0.06


@needs_units
@HALF
@pytest.mark.parametrize(
    ("sizes", "o"),
    [((32, 320, 32, 32), 320), ((2, 320, 16, 1024), 512), ((2, 1280, 16, 64), 1280), ((3, 64, 7, 16), 128)],
)
@torch.inference_mode()
def test_a_linear_layer_behind_a_group_norm(
    sizes: tuple[int, int, int, int], o: int, dtype: torch.dtype
) -> None:
    c = sizes[1]
    norm = GroupNorm(32, c, eps=1e-6).eval().to("cuda", dtype)
    norm.weight.normal_()
    norm.bias.normal_()
    layer = nn.Linear(c, o).to("cuda", dtype)
    x = torch.randn(sizes, device="cuda").to(dtype).contiguous(memory_format=torch.channels_last)
    copy = kernel_copied(layer.weight, norm.weight, norm.bias)
    with in_eight_bits(Copies({layer.weight: copy})):
        _, rows = norm_before(layer, norm, x, None)
        found = linear_behind(layer, rows, dtype)
    wanted = F.linear(rows.double() * copy.norm_scale, copy.taps.double().flatten(1) * copy.kernel_scale)
    wanted += layer.bias.double()
    assert rows.dtype == torch.float8_e4m3fn and found.shape == wanted.shape and found.dtype == dtype
    assert float((found.double() - wanted).norm() / wanted.norm()) < 2e-2
    exact = layer(norm(x).permute(0, 2, 3, 1)).double()
    assert float((found.double() - exact).norm() / exact.norm()) < 0.06


@needs_taps
@HALF
@pytest.mark.parametrize(
    ("sizes", "o", "tall", "wide"),
    [
        ((2, 320, 16, 1024), 320, 3, 1),
        ((2, 640, 16, 256), 640, 3, 1),
        ((2, 1280, 16, 16), 1280, 3, 1),
        ((2, 320, 5, 333), 320, 3, 1),
        ((32, 320, 32, 32), 320, 3, 3),
        ((32, 960, 32, 32), 320, 3, 3),
        ((32, 1280, 16, 16), 640, 3, 3),
        ((32, 2560, 8, 8), 1280, 3, 3),
        ((32, 1280, 4, 4), 1280, 3, 3),
        ((48, 640, 20, 36), 640, 3, 3),
        ((48, 1280, 5, 9), 1280, 3, 3),
        ((8, 64, 33, 32), 128, 3, 3),
        ((2, 1280, 16, 64), 1280, 3, 1),
    ],
)
@torch.inference_mode()
def test_a_convolution_in_eight_bits(
    sizes: tuple[int, int, int, int], o: int, tall: int, wide: int, dtype: torch.dtype
) -> None:
    c = sizes[1]
    norm = GroupNorm(32, c, eps=1e-5, silu=True).eval().to("cuda", dtype)
    norm.weight.normal_()
    norm.bias.normal_()
    padding = (tall // 2, wide // 2)
    conv = nn.Conv2d(c, o, (tall, wide), padding=padding).to("cuda", dtype)
    x = torch.randn(sizes, device="cuda").add_(0.5).to(dtype).contiguous(memory_format=torch.channels_last)
    waiting = torch.randn(1, c, device="cuda").to(dtype)
    copy = kernel_copied(conv.weight, norm.weight, norm.bias)
    numbers, plain = norm.reading(x, waiting, scale=copy.norm_scale)[1], norm(x, waiting)
    assert numbers.dtype == torch.float8_e4m3fn and numbers.shape == plain.shape
    apart = (numbers.double() * copy.norm_scale - plain.double()).norm() / plain.double().norm()
    assert float(apart) < 0.04
    with in_eight_bits(Copies({conv.weight: copy})):
        _, found = normed_convolution(norm, x, waiting, conv.weight) or (None, None)
        _, again = normed_convolution(norm, x, waiting, conv.weight) or (None, None)
        assert found is not None and again is not None and torch.equal(found, again)
        stream, biases = torch.randn_like(found), torch.randn(2, 1, o, device="cuda").to(dtype)
        onto = stream, biases[0], biases[1]
        _, total = normed_convolution(norm, x, waiting, conv.weight, lambda: onto) or (None, None)
        assert total is not None
        torch.testing.assert_close(total, add(stream, found, *onto[1:]), rtol=2e-2, atol=2e-2)
    taps = copy.taps.double().permute(0, 3, 1, 2) * copy.scale
    wanted = F.conv2d(numbers.double(), taps, padding=padding)
    assert found.shape == wanted.shape and found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found.double() - wanted).norm() / wanted.norm()) < 2e-2
    exact = F.conv2d(plain, conv.weight, padding=padding).double()
    assert float((found.double() - exact).norm() / exact.norm()) < 0.06


@needs_units
@torch.inference_mode()
def test_recorded_passes_in_eight_bits_follow_weights_that_change() -> None:
    unet = tiny_components().unet.to("cuda", torch.float16)
    recorder = Recorder(unet)
    told = Conditioning(tokens=torch.randn(1, 5, 16, device="cuda", dtype=torch.float16))
    x = torch.randn(1, 4, 3, 4, 4, device="cuda", dtype=torch.float16)
    t = torch.tensor([500.0], device="cuda")
    for factor in (1.0, 1.0, 1.0, 1.3):
        unet.middle.temporal.layer.feed_forward.up.weight.mul_(factor)
        with in_eight_bits(copies_of(unet)):
            torch.testing.assert_close(recorder(x, t, told), unet(x, t, told))


@needs_taps
@torch.inference_mode()
def test_recorded_products_of_taps_follow_weights_that_change() -> None:
    config = replace(tiny_components().unet.config, width=64, head_dim=32)
    with torch.inference_mode(False):
        unet = UNet(config).eval().requires_grad_(False).to("cuda", torch.float16)
    recorder, block = Recorder(unet), unet.middle.enter
    told = Conditioning(tokens=torch.randn(1, 5, config.context_dim, device="cuda", dtype=torch.float16))
    x = torch.randn(1, 4, 8, 16, 16, device="cuda", dtype=torch.float16)
    t = torch.tensor([500.0], device="cuda")
    for factor in (1.0, 1.0, 1.0, 1.3):
        block.conv1.weight.mul_(factor)
        block.norm2.weight.mul_(factor)
        with in_eight_bits(copies_of(unet)):
            torch.testing.assert_close(recorder(x, t, told), unet(x, t, told))


@torch.inference_mode()
def test_recorded_parts_of_a_pass_give_what_plain_ones_give() -> None:
    unet = tiny_components().unet.to("cuda", torch.float16)
    recorder = Recorder(unet)
    for seed in range(4):
        g = torch.Generator("cuda").manual_seed(seed)
        told = Conditioning(tokens=torch.randn(2, 5, 16, device="cuda", generator=g).half())
        x = torch.randn(1, 4, 3, 4, 4, device="cuda", generator=g).half()
        t, later = torch.tensor([500.0], device="cuda"), torch.tensor([400.0], device="cuda")
        answer, *left = recorder.through(whole, (x, t), told)
        torch.testing.assert_close(answer, unet(x, t, told))
        found = recorder.through(rest, (later, *left), told)[0]
        torch.testing.assert_close(found, rest(unet, later, *whole(unet, x, t, told)[1:], told)[0])
