"""Products of 8-bit numbers: as near as their format allows, and only where they are asked for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinescribe.ops.linear import Linear, linear_geglu
from kinescribe.ops.linear_fp8 import (
    LARGEST,
    Copies,
    Rows8,
    copied,
    copies_fit,
    in_eight_bits,
    linear_fp8,
    packed_fp8,
    quantise_rows,
    rearranged,
    restored,
    rows8,
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


def test_linear_operations_take_the_copy_inside_the_block_only() -> None:
    x = numbers(6, 32)
    up, layer = nn.Linear(32, 128), Linear(32, 32)
    calls = (lambda: linear_geglu(x, up.weight, up.bias), lambda: layer(x))
    with torch.no_grad():
        exact = [call() for call in calls]
        copies = Copies({m.weight: copied([m.weight]) for m in (up, layer)})
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


def test_rows_that_come_in_eight_bits_give_what_rows_brought_there_give() -> None:
    x, up, layers = numbers(2, 6, 32), nn.Linear(32, 128), [Linear(32, 16) for _ in range(2)]
    rows = rows8(x)
    assert rows.numbers.shape == x.shape and rows.scales.shape == (2, 6, 1) and rows8(rows) is rows
    copies = Copies({m.weight: copied([m.weight]) for m in (up, layers[0])})
    packed = Copies({layers[0].weight: copied([layer.weight for layer in layers])})
    with torch.no_grad():
        with in_eight_bits(copies):
            assert torch.equal(linear_geglu(rows, up.weight, up.bias), linear_geglu(x, up.weight, up.bias))
            assert torch.equal(layers[0](rows), layers[0](x))
        with in_eight_bits(packed):
            for one, other in zip(together(rows, layers), together(x, layers), strict=True):
                assert torch.equal(one, other)


def test_layers_without_a_copy_read_what_the_rows_stand_for() -> None:
    x, up, layers = numbers(2, 6, 32), nn.Linear(32, 128), [Linear(32, 16) for _ in range(2)]
    rows = rows8(x.half())
    near = restored(rows)
    assert restored(x) is x and near.dtype == torch.float16
    assert 1e-3 < float((near - x).norm() / x.norm()) < 0.05
    rows = Rows8(rows.numbers, rows.scales, torch.float32)
    near = restored(rows)
    with torch.no_grad():
        assert torch.equal(linear_geglu(rows, up.weight, up.bias), linear_geglu(near, up.weight, up.bias))
        assert torch.equal(layers[0](rows), layers[0](near))
        assert torch.equal(together(rows, layers)[1], layers[1](near))


def test_scales_go_where_their_rows_go() -> None:
    x = numbers(2, 6, 32)
    swapped = rearranged(lambda part: part.transpose(0, 1).repeat(1, 3, 1), rows8(x))
    assert isinstance(swapped, Rows8)
    assert torch.equal(restored(swapped), restored(rows8(x)).transpose(0, 1).repeat(1, 3, 1))


def test_sizes_that_the_unit_does_not_take_have_no_copy() -> None:
    assert copies_fit(torch.empty(48, 32))
    assert not copies_fit(torch.empty(40, 32)) and not copies_fit(torch.empty(48, 24))
