"""Convolutions along time with 8-bit factors: as near as the format allows, whatever the norm in front is scaled by."""

import pytest
import torch

from kinescribe.models.blocks import TemporalConvStage
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import LARGEST, Copies, in_eight_bits
from kinescribe.ops.temporal import TemporalConv
from kinescribe.ops.temporal_fp8 import DEVIATIONS, kernel_copied, quantise, temporal_conv_fp8


def made(seed: int = 0) -> tuple[GroupNorm, TemporalConv, torch.Tensor]:
    torch.manual_seed(seed)
    norm, conv = GroupNorm(4, 32, eps=1e-5, silu=True), TemporalConv(32)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm, conv, torch.randn(2, 32, 5, 6).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_the_convolution_is_near_that_of_the_kernel(size: float) -> None:
    norm, conv, x = made()
    shift = torch.randn(1, 32)
    with torch.no_grad():
        norm.weight.mul_(size)
        norm.bias.mul_(size)
        exact = conv(norm(x, shift)) - conv.bias[:, None, None]
        near = temporal_conv_fp8(norm, x, shift, kernel_copied(conv.weight, norm.weight, norm.bias))
    assert near.shape == exact.shape and near.dtype == x.dtype
    assert near.is_contiguous(memory_format=torch.channels_last)
    assert 1e-3 < float((near - exact).norm() / exact.norm()) < 0.05


def test_sixteen_deviations_fit_and_what_lies_beyond_counts_as_the_last() -> None:
    weight, bias = torch.tensor([0.5, -2.0]), torch.tensor([3.0, -1.0])
    scale = kernel_copied(torch.randn(16, 2, 3, 1), weight, bias).window_scale
    most = DEVIATIONS * 2 + 1
    torch.testing.assert_close(scale * LARGEST, torch.tensor(most))
    found = quantise(torch.tensor([most, 2 * most, -1e6, 0.0]), scale).float()
    assert found.tolist() == [LARGEST, LARGEST, -LARGEST, 0.0]


def test_a_stage_takes_the_copy_inside_the_block_only() -> None:
    torch.manual_seed(0)
    stage = TemporalConvStage(32, 4, 0.1).eval()
    x = torch.randn(1, 32, 3, 6)
    copies = Copies({stage.conv.weight: kernel_copied(stage.conv.weight, stage.norm.weight, stage.norm.bias)})

    def answer() -> torch.Tensor:
        out, waiting = stage(x, None)
        return out if waiting is None else out + waiting[:, :, None, None]

    with torch.no_grad():
        before = answer()
        with in_eight_bits(copies):
            near = answer()
        assert torch.equal(answer(), before)
    assert 1e-3 < float((near - before).norm() / before.norm()) < 0.05
