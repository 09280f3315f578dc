import pytest
import torch

from kinescribe.world import measures


def test_geometry_of_a_box_off_the_middle() -> None:
    cover = torch.zeros(1, 1, 16, 16)
    cover[..., 8:12, 12:16] = 1
    extent, x, y, xx, yy, xy = measures.geometry(cover)[0, 0].tolist()
    assert extent == pytest.approx(0.25)
    assert (x, y) == pytest.approx((0.75, 0.25))
    assert xx == pytest.approx(yy)
    assert xy == pytest.approx(0, abs=1e-6)


def test_centre_follows_the_peak_of_a_map() -> None:
    maps = torch.zeros(1, 1, 2, 8, 8)
    maps[0, 0, 0, 0, 7] = 50
    corner, even = measures.centres(maps)[0, 0].tolist()
    assert corner == pytest.approx([0.875, -0.875])
    assert even == pytest.approx([0, 0], abs=1e-6)
