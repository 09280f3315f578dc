"""Layer normalisation on the CPU: the library's numbers, and the sum beside them."""

import torch
from torch import nn

from kinescribe.ops.layer_norm import LayerNorm, add_layer_norm, layer_norm, layer_norm_reference
from kinescribe.ops.linear_fp8 import Copies, Rows8, copied, in_eight_bits, rows8


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_layer_norm_equals_its_reference() -> None:
    x, weight, bias = double(2, 3, 10), double(10), double(10) + 1
    expected = layer_norm_reference(x, weight, bias, 1e-5)
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-5), expected)


def test_layer_norm_of_a_sum_gives_both() -> None:
    x, y, weight, bias = double(2, 3, 10), double(2, 3, 10) - 1, double(10), double(10) + 1
    total, normed = add_layer_norm(x, y, weight, bias, 1e-5)
    assert torch.equal(total, x + y) and torch.equal(normed, layer_norm(x + y, weight, bias, 1e-5))


def test_one_bias_counts_in_the_norm_and_one_only_in_the_sum() -> None:
    x, y, weight, bias = double(2, 3, 10), double(2, 3, 10) - 1, double(10), double(10) + 1
    total, normed = add_layer_norm(x, y, weight, bias, 1e-5, waiting=weight, ahead=bias)
    torch.testing.assert_close(total, x + y + weight + bias)
    torch.testing.assert_close(normed, layer_norm(x + y + weight, weight, bias, 1e-5))


def test_the_layer_is_the_library_s_with_the_same_names_and_numbers() -> None:
    theirs, mine = nn.LayerNorm(10).double(), LayerNorm(10).double()
    nn.init.normal_(theirs.weight)
    mine.load_state_dict(theirs.state_dict())
    x = double(4, 10)
    assert torch.equal(mine(x), theirs(x))
    assert torch.equal(mine.added(x, (x, None))[1], theirs(x + x))


def test_norm_before_a_layer_with_a_copy_is_in_eight_bits() -> None:
    norm, reader = LayerNorm(16), torch.randn(16, 16)
    torch.nn.init.normal_(norm.weight)
    x, y, (waiting, ahead) = torch.randn(3, 4, 16), torch.randn(3, 4, 16), torch.randn(2, 16)
    with torch.no_grad():
        alone = norm.before(reader, x)
        total, normed = norm.added(x, (y, waiting), ahead, before=reader)
        with in_eight_bits(Copies({reader: copied([reader])})):
            alone8 = norm.before(reader, x)
            total8, normed8 = norm.added(x, (y, waiting), ahead, before=reader)
            assert torch.equal(norm(x), alone) and torch.equal(norm.added(x, (y, waiting), ahead)[1], normed)
    assert torch.equal(alone, norm(x)) and torch.equal(total8, total)
    for found, plain in ((alone8, alone), (normed8, normed)):
        assert isinstance(found, Rows8) and isinstance(plain, torch.Tensor)
        wanted = rows8(plain)
        assert found.dtype == plain.dtype and torch.equal(found.scales, wanted.scales)
        assert torch.equal(found.numbers.float(), wanted.numbers.float())
