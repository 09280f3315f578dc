"""Products of 8-bit numbers: as near as their format allows, and only where they are asked for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinescribe.ops.linear import Linear, linear_add, linear_geglu
from kinescribe.ops.linear_fp8 import (
    LARGEST,
    Copies,
    copied,
    copies_fit,
    in_eight_bits,
    linear_fp8,
    packed_fp8,
    quantise_rows,
)
from kinescribe.ops.packed import together


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_largest_number_of_each_row_takes_the_whole_range() -> None:
    x = numbers(5, 32) * torch.tensor([1e-6, 1.0, 7.0, 1e4, 0.0])[:, None]
    eighths, scales = quantise_rows(x)
    assert eighths.dtype == torch.float8_e4m3fn and scales.dtype == torch.float32
    assert eighths.float().abs().amax(-1).tolist() == [LARGEST] * 4 + [0.0]
    # three bits behind the leading one: half a step of 1/8; numbers near zero lie on the finest grid
    allowed = (x.abs() / 16).maximum(scales * 2.0**-10)
    assert bool(((eighths.float() * scales - x).abs() <= allowed * 1.0001).all())


def test_the_product_is_near_that_of_the_weights() -> None:
    x, weight, bias = numbers(3, 7, 64), numbers(48, 64, seed=1), numbers(48, seed=2)
    exact, near = F.linear(x, weight, bias), linear_fp8(x, copied([weight]), bias)
    assert near.shape == exact.shape and near.dtype == exact.dtype
    error = float((near - exact).norm() / exact.norm())
    assert 1e-3 < error < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_answer_has_the_dtype_of_what_went_in(dtype: torch.dtype) -> None:
    x, weight = numbers(4, 16).to(dtype), numbers(16, 16).to(dtype)
    assert linear_fp8(x, copied([weight]), None).dtype == dtype


def test_every_linear_operation_takes_the_copy_inside_the_block_only() -> None:
    x, stream = numbers(6, 32), numbers(6, 32, seed=4)
    up, down, layer = nn.Linear(32, 128), nn.Linear(32, 32), Linear(32, 32)
    calls = (
        lambda: linear_geglu(x, up.weight, up.bias),
        lambda: linear_add(x, down.weight, down.bias, stream),
        lambda: layer(x),
    )
    with torch.no_grad():
        exact = [call() for call in calls]
        copies = Copies({m.weight: copied([m.weight]) for m in (up, down, layer)})
        with in_eight_bits(copies):
            near = [call() for call in calls]
        after = [call() for call in calls]
    for before, between, later in zip(exact, near, after, strict=True):
        assert torch.equal(before, later) and not torch.equal(before, between)
        assert float((between - before).norm() / before.norm()) < 0.1


def test_layers_of_one_input_have_one_copy() -> None:
    x, layers = numbers(6, 32), [nn.Linear(32, 16, bias=False) for _ in range(3)]
    copies = Copies({layers[0].weight: copied([layer.weight for layer in layers])})
    with torch.no_grad():
        assert packed_fp8(x, layers) is None
        with in_eight_bits(copies):
            near = together(x, layers)
        exact = together(x, layers)
    for one, other in zip(near, exact, strict=True):
        assert one.shape == other.shape and not torch.equal(one, other)
        assert float((one - other).norm() / other.norm()) < 0.1


def test_sizes_that_the_unit_does_not_take_have_no_copy() -> None:
    assert copies_fit(torch.empty(48, 32))
    assert not copies_fit(torch.empty(40, 32)) and not copies_fit(torch.empty(48, 24))
