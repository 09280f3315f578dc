"""Linear layers with what follows them, on the CPU, and the table of tiles."""

import pytest
import torch
from torch.nn import functional as F

from kinescribe.ops.linear import geglu, geglu_reference, linear_add, linear_geglu
from kinescribe.ops.tiles import linear_tile


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_value_comes_first_and_the_gate_second() -> None:
    x = torch.tensor([[3.0, 5.0, 0.0, 10.0]])
    assert torch.equal(geglu(x), torch.tensor([[0.0, 50.0]]))


def test_linear_geglu_gates_the_linear_layer() -> None:
    x, weight, bias = double(2, 3, 6), double(8, 6), double(8)
    assert torch.equal(linear_geglu(x, weight, bias), geglu_reference(F.linear(x, weight, bias)))


def test_linear_add_adds_the_linear_layer_to_the_residual() -> None:
    x, weight, bias, residual = double(2, 3, 6), double(4, 6), double(4), double(2, 3, 4)
    assert torch.equal(linear_add(x, weight, bias, residual), residual + F.linear(x, weight, bias))


@pytest.mark.parametrize(
    ("k", "n", "gated"), [(1280, 10240, True), (320, 2560, True), (320, 320, False), (512, 512, False)]
)
def test_tiles_are_whole_in_the_product(k: int, n: int, gated: bool) -> None:
    tile = linear_tile(1 << 16, n, k, gated=gated)
    assert tile is not None and n % tile.n == 0 and k % tile.k == 0


@pytest.mark.parametrize(("k", "n", "gated"), [(1280, 320, False), (640, 640, False)])
def test_the_library_multiplies_where_it_was_measured_to_be_faster(k: int, n: int, gated: bool) -> None:
    assert linear_tile(1 << 16, n, k, gated=gated) is None


def test_the_library_multiplies_what_is_small_or_ragged() -> None:
    assert linear_tile(77, 1280, 1024, gated=False) is None
    assert linear_tile(1 << 16, 100, 320, gated=False) is None
    assert linear_tile(1 << 16, 320, 36, gated=False) is None
