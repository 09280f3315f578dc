"""Resampling: the rows and columns of each model, and the convolutions behind them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.models.blocks import Downsample, Upsample

COLUMNS = 16


def filled(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.requires_grad_(False).double()


def rows(h: int, row_padding: int) -> tuple[list[int], list[int]]:
    """Rows of the levels on the way down three times, and on the way up by doubling alone."""
    down, x = [h], torch.zeros(1, 1, 1, h, COLUMNS)
    for _ in range(3):
        x = Downsample(1, row_padding)(x)
        down.append(x.shape[3])
    up, extra = [down[-1]], row_padding - 1
    for size in reversed(down[:-1]):
        up.append(2 * up[-1] - 2 * extra if up[-1] == down[len(down) - len(up)] else -1)
        x = Upsample(1, row_padding)(x, torch.Size((size, 2 * x.shape[4])))
        assert x.shape[3] == size
    return down, up


@pytest.mark.parametrize("h", [10, 18, 26, 58, 90])
def test_second_stage_heights_of_64_k_and_16_pixels_double_without_resizing(h: int) -> None:
    down, up = rows(h, 2)
    assert up == down[::-1]


def test_720_rows_of_pixels_have_these_levels() -> None:
    assert rows(90, 2) == ([90, 46, 24, 13], [13, 24, 46, 90])


@pytest.mark.parametrize("row_padding", [1, 2])
def test_no_other_height_doubles_without_resizing(row_padding: int) -> None:
    fitting = [h for h in range(2, 60) if (levels := rows(h, row_padding))[1] == levels[0][::-1]]
    assert fitting == [h for h in range(2, 60) if h % 8 == (2 if row_padding == 2 else 0)]


def test_padded_rows_are_those_of_the_written_out_convolution() -> None:
    down = filled(Downsample(3, 2))
    x = torch.randn(2, 3, 4, 10, 6, dtype=torch.float64)
    wanted = F.conv2d(
        F.pad(x.transpose(1, 2).flatten(0, 1), (1, 1, 2, 2)), down.conv.weight, down.conv.bias, stride=2
    )
    out: Tensor = down(x)
    assert out.shape == (2, 3, 4, 6, 3)
    torch.testing.assert_close(out.transpose(1, 2).flatten(0, 1), wanted)


def test_first_and_last_row_are_cut_off_before_the_convolution() -> None:
    up = filled(Upsample(3, 2))
    x = torch.randn(2, 3, 4, 6, 3, dtype=torch.float64)
    doubled = F.interpolate(x.transpose(1, 2).flatten(0, 1), scale_factor=2.0)[:, :, 1:-1]
    wanted = F.conv2d(doubled, up.conv.weight, up.conv.bias, padding=1)
    torch.testing.assert_close(up(x, torch.Size((10, 6))).transpose(1, 2).flatten(0, 1), wanted)


def test_plain_upsampling_keeps_every_row() -> None:
    up = filled(Upsample(1, 1))
    x = torch.randn(1, 1, 1, 3, 3, dtype=torch.float64)
    doubled = F.interpolate(x[:, :, 0], scale_factor=2.0)
    wanted = F.conv2d(doubled, up.conv.weight, up.conv.bias, padding=1)
    torch.testing.assert_close(up(x, torch.Size((6, 6)))[:, :, 0], wanted)
