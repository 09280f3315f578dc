import pytest
import torch
from torch.nn import functional as F

from kinescribe.evaluate.sharpness import EDGE_SHARE, edge_sharpness, edges, likeness, slopes
from kinescribe.world.clip import sample_clips
from kinescribe.world.render import render


def stripes(at: int, soft: int) -> torch.Tensor:
    """Two frames of stripes: from column `at` on levels rise by 150 over `soft` pixels, 16 further on they fall."""
    x = (torch.arange(64) - at) % 32
    rise, fall = x.clamp(0, soft) / soft, (x - 16).clamp(0, soft) / soft
    row = (50 + 150 * (rise - fall)).round().to(torch.uint8)
    return row[None, None, :, None].expand(2, 64, 64, 3).contiguous()


def test_slopes_are_levels_a_pixel() -> None:
    assert slopes(stripes(28, 1)).max().item() == pytest.approx(150, abs=0.1)
    assert slopes(stripes(28, 5)).max().item() == pytest.approx(30, abs=0.6)


def test_a_softer_edge_is_less_sharp_and_one_a_pixel_aside_is_not() -> None:
    where = edges(stripes(28, 1))
    sharp = edge_sharpness(stripes(28, 1), where)
    assert sharp == pytest.approx(150, abs=0.1)
    assert edge_sharpness(stripes(29, 1), where) == pytest.approx(sharp)
    assert edge_sharpness(stripes(27, 3), where) == pytest.approx(sharp / 3, rel=0.02)


def test_edges_are_a_share_of_a_clip() -> None:
    clip = render(sample_clips(1, 4), size=64, frames=2)[0]
    assert edges(clip).float().mean().item() == pytest.approx(EDGE_SHARE, rel=0.05)


def test_enlarging_loses_sharpness_of_a_true_render() -> None:
    clips = sample_clips(2, 5)
    small, large = render(clips, size=64, frames=2)[1], render(clips, size=128, frames=2)[1]
    planes = small.permute(0, 3, 1, 2).float()
    soft = (
        F.interpolate(planes, size=(128, 128), mode="bicubic")
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
    )
    where = edges(large)
    assert edge_sharpness(soft, where) < 0.85 * edge_sharpness(large, where)


def test_likeness_is_psnr() -> None:
    flat = torch.full((1, 8, 8, 3), 100, dtype=torch.uint8)
    assert likeness(flat, flat) == pytest.approx(100)
    assert likeness(flat + 1, flat) == pytest.approx(48.13, abs=0.01)
