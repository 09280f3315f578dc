"""Weights on their way to a GPU; a processor stands for the GPU here, and its copies are done at once."""

from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from kinescribe.checkpoints import upload
from kinescribe.checkpoints.upload import BUFFERS, uploaded

CPU = torch.device("cpu")
PIECE = 1 << 10


class Moment:
    """Stands for an event of a GPU; knows whether it was waited for since the last copy."""

    waited = True

    def synchronize(self) -> None:
        self.waited = True

    def record(self, _stream: object) -> None:
        assert self.waited, "a buffer was copied from twice, and nobody waited before it was written again"
        self.waited = False


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Moment)
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    monkeypatch.setattr(upload, "PIECE", PIECE)


def copies(tensors: Iterator[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def various() -> list[Tensor]:
    """Of many sizes and kinds; the last is none of its kind that a piece, or a row of pieces, holds exactly."""
    kinds = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn]
    sizes = [0, 1, 7, 300, 2 * PIECE, 5000, 3, PIECE // 4]
    made = [torch.randn(size).to(kind) for size in sizes for kind in kinds]
    return [
        *made,
        torch.tensor(3.0),
        torch.zeros(2, 0, 3),
        torch.randn(50, 70).mT,
        torch.randn(9, requires_grad=True),
    ]


def test_tensors_arrive_in_order_as_they_were() -> None:
    given = various()
    with uploaded(iter(given), CPU) as tensors:
        found = copies(tensors)
    for one, other in zip(given, found, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and not other.requires_grad
        assert torch.equal(
            one.contiguous().reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
        )


def test_a_few_buffers_serve_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    memory = upload.main_memory
    monkeypatch.setattr(upload, "main_memory", lambda size: made.append(1) or memory(size))
    with uploaded((torch.full((PIECE,), float(i)) for i in range(50)), CPU) as tensors:
        assert [int(tensor[-1]) for tensor in tensors] == list(range(50))
    assert len(made) == BUFFERS


def test_reading_begins_before_the_first_is_asked_for() -> None:
    asked = []
    with uploaded((asked.append(i) or torch.ones(PIECE) for i in range(50)), CPU):
        assert asked
    assert len(asked) < 50


def test_an_error_of_a_reader_comes_where_its_tensor_would(monkeypatch: pytest.MonkeyPatch) -> None:
    read = upload._Batch.read

    def failing(self: upload._Batch, begin: int, buffer: Tensor) -> None:
        if self.tensors[0][0][0] == 20:
            raise OSError("the disk is gone")
        read(self, begin, buffer)

    monkeypatch.setattr(upload._Batch, "read", failing)
    with uploaded((torch.full((PIECE,), float(i)) for i in range(30)), CPU) as tensors:
        assert [int(next(tensors)[0]) for _ in range(20)] == list(range(20))
        with pytest.raises(OSError, match="the disk is gone"):
            next(tensors)


def test_without_pinned_memory_plain_memory_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(*size: int, pin_memory: bool = False, **more: object) -> Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return empty(*size, **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "empty", refuse)
    with uploaded(iter([torch.arange(3)]), CPU) as tensors:
        assert torch.equal(next(tensors), torch.arange(3))


def test_of_no_tensors_none_arrive() -> None:
    with uploaded(iter(()), CPU) as tensors:
        assert list(tensors) == []
