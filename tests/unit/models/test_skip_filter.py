"""The filter of SR600's deepest skips: a Fourier transform without one, and the channels it strengthens."""

import pytest
import torch
from torch import Tensor

from kinescribe.models.skip_filter import SR600, FourierSkipFilter, JointScales, scale_lowest


def by_transform(x: Tensor, scale: float) -> Tensor:
    """Shift the zero frequency to the middle, scale the four entries around its corner, shift back."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    y, z = x.shape[-2] // 2, x.shape[-1] // 2
    spectrum[..., max(y - 1, 0) : y + 1, max(z - 1, 0) : z + 1] *= scale
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real


def joint(b: int = 2, c: int = 5, d: int = 3, f: int = 2, h: int = 5, w: int = 4) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(b, c, f, h, w, generator=g), torch.randn(b, d, f, h, w, generator=g)


@pytest.mark.parametrize("scale", [0.4, 0.0, 2.0])
@pytest.mark.parametrize("h", [1, 2, 3, 6, 13])
@pytest.mark.parametrize("w", [1, 2, 5, 20])
def test_lowest_frequencies_are_those_of_the_transform(h: int, w: int, scale: float) -> None:
    _, skip = joint(h=h, w=w)
    torch.testing.assert_close(scale_lowest(skip, scale), by_transform(skip, scale), rtol=1e-5, atol=2e-6)


def test_a_constant_frame_is_lowest_frequency_alone() -> None:
    torch.testing.assert_close(
        scale_lowest(torch.ones(1, 1, 1, 7, 6), 0.25), torch.full((1, 1, 1, 7, 6), 0.25)
    )


def test_scales_of_one_change_nothing() -> None:
    x, skip = joint()
    same = FourierSkipFilter((JointScales(backbone=1.0, skip=1.0),))(0, x, skip)
    assert torch.equal(same[0], x)
    assert torch.equal(same[1], skip)


def test_each_block_has_its_own_scales_and_later_ones_none() -> None:
    x, skip = joint()
    sr600 = FourierSkipFilter(SR600)
    for block, (backbone, low) in enumerate(((1.1, 0.6), (1.2, 0.4))):
        strong, weak = sr600(block, x, skip)
        assert torch.equal(strong[:, :2], x[:, :2] * backbone)
        assert torch.equal(strong[:, 2:], x[:, 2:])
        torch.testing.assert_close(weak, by_transform(skip, low))
    for block in (2, 11):
        assert sr600(block, x, skip) == (x, skip)


def test_every_frame_and_channel_is_filtered_by_itself() -> None:
    _, skip = joint()
    whole = scale_lowest(skip, 0.3)
    for i in range(2):
        alone = scale_lowest(skip[:, 1:2, i : i + 1], 0.3)
        torch.testing.assert_close(whole[:, 1:2, i : i + 1], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_filtered_in_single_and_kept(dtype: torch.dtype) -> None:
    x, skip = (part.to(dtype) for part in joint(h=13, w=20))
    strong, weak = FourierSkipFilter(SR600)(0, x, skip)
    assert strong.dtype == weak.dtype == dtype
    assert torch.equal(weak, scale_lowest(skip.float(), 0.6).to(dtype))
