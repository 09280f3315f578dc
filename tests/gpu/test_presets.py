"""Presets on a GPU: 8-bit products against the plain ones, and recorded parts of a pass against plain passes."""

import pytest
import torch

from conftest import tiny_components
from kinescribe.models.conditions import Conditioning
from kinescribe.ops.linear_fp8 import (
    copied,
    in_eight_bits,
    linear_fp8,
    quantise_rows,
    quantise_rows_reference,
)
from kinescribe.ops.select import has_eight_bit_units
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
