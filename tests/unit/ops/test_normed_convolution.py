"""Convolutions with 8-bit factors: as near as the format allows, whatever the norm in front is scaled by."""

import pytest
import torch
from torch import nn

from interpreted import needs_triton
from kinescribe.models.blocks import ResidualBlock, TemporalConvStage
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import LARGEST, Copies, in_eight_bits
from kinescribe.ops.normed_convolution import (
    DEVIATIONS,
    kernel_copied,
    normed_convolution,
    quantise,
)
from kinescribe.ops.select import standing_for, taps_serve
from kinescribe.ops.temporal import TemporalConv


def made() -> tuple[GroupNorm, torch.Tensor]:
    torch.manual_seed(0)
    norm = GroupNorm(4, 32, eps=1e-5, silu=True).eval()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm, torch.randn(2, 32, 5, 6).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("conv", [TemporalConv(32), nn.Conv2d(32, 48, 3, padding=1)])
def test_the_convolution_is_near_that_of_the_kernel(conv: nn.Conv2d, size: float) -> None:
    norm, x = made()
    assert conv.bias is not None
    shift = torch.randn(1, 32)
    with torch.no_grad():
        norm.weight.mul_(size)
        norm.bias.mul_(size)
        exact = conv(norm(x, shift)) - conv.bias[:, None, None]
        assert normed_convolution(norm, x, shift, conv.weight) is None
        with in_eight_bits(Copies({conv.weight: kernel_copied(conv.weight, norm.weight, norm.bias)})):
            whole, near = normed_convolution(norm, x, shift, conv.weight) or (None, None)
            stream, ahead = torch.randn_like(exact), torch.randn(1, len(conv.bias))
            onto = stream, conv.bias[None], ahead
            _, total = normed_convolution(norm, x, shift, conv.weight, lambda: onto) or (None, None)
    assert whole is x and near is not None and near.shape == exact.shape and near.dtype == x.dtype
    assert near.is_contiguous(memory_format=torch.channels_last)
    assert 1e-3 < float((near - exact).norm() / exact.norm()) < 0.05
    assert total is not None
    torch.testing.assert_close(total, stream + near + (conv.bias + ahead)[:, :, None, None])


def test_sixteen_deviations_fit_and_what_lies_beyond_counts_as_the_last() -> None:
    weight, bias = torch.tensor([0.5, -2.0]), torch.tensor([3.0, -1.0])
    scale = kernel_copied(torch.randn(16, 2, 3, 1), weight, bias).norm_scale
    most = DEVIATIONS * 2 + 1
    torch.testing.assert_close(scale * LARGEST, torch.tensor(most))
    found = quantise(torch.tensor([most, 2 * most, -1e6, 0.0]), scale).float()
    assert found.tolist() == [LARGEST, LARGEST, -LARGEST, 0.0]


def test_blocks_take_the_copies_inside_the_block_only() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(32, 48, 16, 4, 0.1).eval()
    for conv in (block.conv2, block.temporal.stages[-1].conv):
        nn.init.normal_(conv.weight, std=0.05)
    pairs = [(block.conv1, block.norm1), (block.conv2, block.norm2)]
    pairs += [(stage.conv, stage.norm) for stage in block.temporal.stages]
    x, shift = torch.randn(1, 32, 3, 4, 4), torch.randn(1, 48)
    copied = {conv.weight: kernel_copied(conv.weight, norm.weight, norm.bias) for conv, norm in pairs}
    assert isinstance(block.temporal.stages[0], TemporalConvStage) and len(copied) == 6
    with torch.no_grad():
        exact, apart = block(x, shift), []
        for kernel, copy in copied.items():
            with in_eight_bits(Copies({kernel: copy})):
                apart.append(float((block(x, shift) - exact).norm() / exact.norm()))
        assert torch.equal(block(x, shift), exact)
    assert all(1e-4 < part < 0.05 for part in apart), apart


def test_a_copy_serves_where_its_product_is_and_where_its_numbers_alone_count() -> None:
    sizes = [(64, 64), (32, 16), (24, 16), (16, 4)]
    assert [taps_serve(torch.empty(n, c, 3, 3)) for n, c in sizes] == [True, True, False, False]
    for capability, served in (
        ((9, 0), [True, False, False, False]),
        ((8, 9), [False] * 4),
        ((10, 0), [False] * 4),
    ):
        with standing_for(capability):
            assert [taps_serve(torch.empty(n, c, 3, 3, device="meta")) for n, c in sizes] == served


@needs_triton
def test_the_way_is_chosen_by_copy_size_generation_and_use() -> None:
    def answer(kernel: torch.Tensor, side: int, capability: tuple[int, int] = (9, 0)) -> torch.Tensor | None:
        norm = GroupNorm(32, 320, eps=1e-5, silu=True).half().to("meta").eval()
        x = torch.empty(32, 320, side, side, dtype=torch.float16, device="meta")
        with standing_for(capability):
            made = normed_convolution(norm, x, None, kernel)
            return None if made is None else made[1]

    wide, odd = (torch.empty(o, 320, 3, 3, dtype=torch.float16, device="meta") for o in (320, 48))
    both = Copies(
        {wide: kernel_copied(wide, *torch.ones(2, 320)), odd: kernel_copied(odd, *torch.ones(2, 320))}
    )
    with torch.no_grad():
        for kernel, side, exact, eight in (
            (wide, 32, True, True),
            (wide, 16, False, True),
            (odd, 32, False, False),
        ):
            assert (answer(kernel, side) is not None) == exact
            with in_eight_bits(both):
                assert (answer(kernel, side) is not None) == eight
                assert answer(kernel, side, (8, 9)) is None
    assert answer(wide, 32) is None  # gradients are wanted
