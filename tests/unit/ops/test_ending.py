"""The copy of a transformer's end: near the weights, and wide enough for what a norm lets through."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinescribe.ops import ending
from kinescribe.ops.ending import end_copied, end_copy_for
from kinescribe.ops.linear import linear_geglu
from kinescribe.ops.linear_fp8 import LARGEST, Copies, copied, in_eight_bits
from kinescribe.ops.normed_convolution import DEVIATIONS

C, D = 48, 32


@pytest.fixture
def parts() -> tuple[torch.Tensor, ...]:
    """Weights out, down and up, bias of up, weight and bias of the norm; columns of very different sizes."""
    g = torch.Generator().manual_seed(0)
    shapes = [(C, D), (D, 4 * D), (8 * D, D), (8 * D,), (D,), (D,)]
    parts = [torch.randn(shape, generator=g) for shape in shapes]
    parts[2] *= 10 ** torch.randn(8 * D, 1, generator=g)
    return tuple(parts)


def gated(parts: tuple[torch.Tensor, ...], rows: torch.Tensor) -> torch.Tensor:
    _, _, up, up_bias, weight, bias = parts
    return linear_geglu(F.layer_norm(rows, (D,), weight, bias), up, up_bias)


def test_the_product_of_the_copy_is_near_that_of_the_weights(parts: tuple[torch.Tensor, ...]) -> None:
    copy, inside = end_copied(*parts), gated(parts, torch.randn(500, D))
    assert copy.numbers.shape == (C, 4 * D) and copy.factors.shape == (4 * D,) and copy.scale.ndim == 0
    assert copy.numbers.dtype == torch.float8_e4m3fn and copy.numbers.float().abs().max() == LARGEST
    near = (inside * copy.factors).to(torch.float8_e4m3fn).float() @ copy.numbers.float().T * copy.scale
    exact = inside @ parts[1].T @ parts[0].T
    assert 1e-3 < float((near - exact).norm() / exact.norm()) < 0.06


def test_no_row_of_a_norm_goes_beyond_the_largest_number(parts: tuple[torch.Tensor, ...]) -> None:
    assert D**0.5 < DEVIATIONS  # no row of so few numbers has more deviations in any direction
    most = (gated(parts, torch.randn(5000, D)) * end_copied(*parts).factors).abs().max()
    assert 0.5 < float(most) < LARGEST


def test_columns_of_nothing_are_finite(parts: tuple[torch.Tensor, ...]) -> None:
    out, down, up, up_bias, *norm = parts
    copy = end_copied(torch.zeros_like(out), down, torch.zeros_like(up), torch.zeros_like(up_bias), *norm)
    assert all(bool(part.float().isfinite().all()) for part in vars(copy).values())
    assert copy.numbers.float().abs().max() == 0


def test_it_is_for_rows_that_have_tiles_where_the_kernels_are_and_not_without_the_gated_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, down, up = nn.Linear(320, 320), nn.Linear(1280, 320), nn.Linear(320, 2560)
    norm = torch.ones(320), torch.zeros(320)
    end = end_copied(out.weight, down.weight, up.weight, up.bias, *norm)
    both = Copies({out.weight: end, up.weight: copied([up.weight])})
    asked = up.weight, out.weight
    assert end_copy_for(32768, *asked) is None
    with in_eight_bits(both):
        assert end_copy_for(32768, *asked) is None
        monkeypatch.setattr(ending, "products_serve", lambda *_: True)
        assert end_copy_for(32768, *asked) is end
        assert end_copy_for(512, *asked) is None
    with in_eight_bits(Copies({out.weight: end})):
        assert end_copy_for(32768, *asked) is None
