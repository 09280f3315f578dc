"""Slices change memory and no number."""

import pytest
import torch
from torch import Tensor

from kinescribe.ops.slices import in_slices


@pytest.mark.parametrize("size", [0, 1, 2, 5, 6, 9])
@pytest.mark.parametrize("axis", [0, 2])
def test_slices_are_put_together_in_order(axis: int, size: int) -> None:
    x = torch.arange(6 * 2 * 6).view(6, 2, 6).float()
    assert torch.equal(in_slices(lambda part: part * 2, x, axis, size), x * 2)


def test_work_sees_no_more_than_a_slice_and_may_change_the_other_axes() -> None:
    sizes: list[int] = []

    def work(part: Tensor) -> Tensor:
        sizes.append(part.shape[2])
        return part[:, :1].repeat(1, 3, 1, 1, 1)

    x = torch.randn(1, 2, 5, 2, 2)
    with torch.inference_mode():
        out = in_slices(work, x, 2, 2)
    assert sizes == [2, 2, 1]
    assert torch.equal(out, x[:, :1].repeat(1, 3, 1, 1, 1))
    assert out.is_contiguous(memory_format=torch.channels_last_3d)


def test_training_works_on_everything_at_once() -> None:
    sizes: list[int] = []

    def work(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return part

    in_slices(work, torch.randn(6, 2), 0, 2)
    assert sizes == [6]
