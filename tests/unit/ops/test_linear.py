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


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("width", [320, 512, 640, 1280])
def test_tiles_are_whole_in_the_product(width: int, gated: bool) -> None:
    for k, n in ((width, 8 * width), (4 * width, width), (width, width)):
        tile = linear_tile(1 << 16, n, k, gated=gated)
        assert tile is not None and n % tile.n == 0 and k % tile.k == 0


def test_the_library_multiplies_what_is_small_or_ragged() -> None:
    assert linear_tile(77, 1280, 1024, gated=False) is None
    assert linear_tile(1 << 16, 100, 320, gated=False) is None
    assert linear_tile(1 << 16, 320, 36, gated=False) is None
