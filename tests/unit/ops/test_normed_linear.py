"""A linear layer behind a group norm, plain and in 8 bits."""

import pytest
import torch
from torch import nn

from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import Copies, in_eight_bits
from kinescribe.ops.normed_convolution import kernel_copied
from kinescribe.ops.normed_linear import linear_behind, norm_before


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_the_layer_is_near_in_eight_bits_and_the_plain_one_without_a_copy(size: float) -> None:
    torch.manual_seed(0)
    norm, layer = GroupNorm(4, 32, eps=1e-6), nn.Linear(32, 48)
    nn.init.normal_(norm.weight, std=size)
    nn.init.normal_(norm.bias, std=size)
    x, shift = torch.randn(2, 32, 5, 6).contiguous(memory_format=torch.channels_last), torch.randn(1, 32)

    def made() -> torch.Tensor:
        whole, rows = norm_before(layer, norm, x, shift)
        assert whole is x and rows.shape == (2, 5, 6, 32)
        assert (rows.dtype == x.dtype) == (copies is None)
        return linear_behind(layer, rows.flatten(1, 2), x.dtype)

    with torch.no_grad():
        copies = None
        exact = made()
        assert torch.equal(exact, layer(norm(x, shift).permute(0, 2, 3, 1).flatten(1, 2)))
        copies = Copies({layer.weight: kernel_copied(layer.weight, norm.weight, norm.bias)})
        with in_eight_bits(copies):
            near = made()
    assert near.shape == exact.shape and near.dtype == exact.dtype
    assert 1e-3 < float((near - exact).norm() / (exact - layer.bias.detach()).norm()) < 0.06
