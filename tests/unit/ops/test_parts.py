"""What is in parts becomes the same whole, whoever puts it together, and holds no memory afterwards."""

import weakref

import pytest
import torch
from torch import Tensor

from kinescribe.ops import parts
from kinescribe.ops.convolution import add
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.parts import Parts, first, joined, side_by_side, summed, viewed, whole
from kinescribe.ops.temporal import channels_last, clips, pictures


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are made on this processor too; the passes that put them together are the plain ones."""
    monkeypatch.setattr(parts, "kernels_serve", lambda *_: True)


@pytest.mark.parametrize("count", [1, 2])
def test_joined_channels_lie_innermost(count: int) -> None:
    x, y = torch.randn(count, 3, 2, 4, 5), torch.randn(count, 2, 2, 4, 5)
    found = joined(channels_last(x), y)
    assert torch.equal(found, torch.cat([x, y], 1))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


def test_fewer_clips_stand_beside_several_in_turn() -> None:
    x, y = channels_last(torch.randn(4, 3, 2, 4, 5)), channels_last(torch.randn(2, 2, 2, 4, 5))
    wanted = torch.cat([x, torch.cat([y, y])], 1)
    assert torch.equal(joined(x, y), wanted)
    of_pictures = joined(pictures(x), pictures(y))
    assert torch.equal(clips(of_pictures, 4), wanted)


def test_on_a_processor_nothing_stays_in_parts() -> None:
    x, y, bias = drawn(2, 4, 3, 5), drawn(2, 4, 3, 5), torch.randn(1, 4)
    assert isinstance(summed(x, y, bias), Tensor) and isinstance(side_by_side(x, y), Tensor)
    assert torch.equal(whole(summed(x, y, bias, bias)), add(x, y, bias, bias))


@pytest.mark.usefixtures("served")
def test_parts_are_put_together_once_and_let_go() -> None:
    x, y, bias, ahead = drawn(2, 4, 3, 5), drawn(2, 4, 3, 5), torch.randn(1, 4), torch.randn(1, 4)
    stream, wanted = summed(x, y, bias, ahead), add(x, y, bias, ahead)
    assert isinstance(stream, Parts) and stream.shape == wanted.shape and first(stream) is x
    flat = viewed(stream, lambda part: part.reshape(2, 4, 15, 1))
    with pytest.raises(RuntimeError, match="together already"):
        stream.whole()
    held = weakref.ref(y)
    del y
    assert held() is not None
    assert torch.equal(whole(flat), wanted.reshape(2, 4, 15, 1))
    assert held() is None


@pytest.mark.usefixtures("served")
def test_a_sum_of_clips_becomes_a_clip() -> None:
    x, y, bias = drawn(6, 4, 3, 5), drawn(6, 4, 3, 5), torch.randn(1, 4)
    found = whole(viewed(summed(x, y, bias), lambda part: clips(part, 2)))
    assert torch.equal(found, clips(add(x, y, bias), 2))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.usefixtures("served")
def test_the_shape_of_what_stands_side_by_side() -> None:
    x, y = drawn(4, 3, 2, 5), drawn(2, 2, 2, 5)
    stream = side_by_side(x, y)
    assert isinstance(stream, Parts) and stream.shape == (4, 5, 2, 5)
    assert torch.equal(stream.whole(), joined(x, y))


def test_a_norm_without_kernels_reads_the_whole_and_may_be_trained() -> None:
    x, y, bias = drawn(2, 4, 3, 5), drawn(2, 4, 3, 5), torch.randn(1, 4)
    norm = GroupNorm(2, 4, eps=1e-5)
    found, normed = norm.reading(Parts(x, y, bias, beside=False))
    assert torch.equal(found, add(x, y, bias))
    assert torch.equal(normed, norm(found)) and normed.requires_grad
