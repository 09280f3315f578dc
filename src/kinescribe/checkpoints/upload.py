"""Weights on their way to a GPU: threads read ahead into a few pinned buffers, from which they are copied there.

Main memory is pinned at a fraction of the speed at which it is copied, so the same few buffers serve whole models.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from kinescribe.ops.pinned import main_memory

READERS = 8
BUFFERS = 12
PIECE = 1 << 23
"""Bytes that are read and copied at once."""
ALIGNED = 256


@dataclass
class _Batch:
    """Tensors that lie behind each other in one stretch of the device's memory; the place of each, in bytes."""

    tensors: list[tuple[Tensor, int]] = field(default_factory=list)
    size: int = 0

    def add(self, tensor: Tensor) -> None:
        self.tensors.append((tensor, self.size))
        self.size += -(-tensor.nbytes // ALIGNED) * ALIGNED

    def pieces(self) -> range:
        """Where each piece begins; one at least."""
        return range(0, max(self.size, 1), PIECE)

    def read(self, begin: int, buffer: Tensor) -> None:
        """Fill ``buffer`` with what lies from ``begin`` on."""
        for tensor, place in self.tensors:
            there = _bytes(tensor)[max(begin - place, 0) : max(begin - place + PIECE, 0)]
            start = max(place - begin, 0)
            # not torch's copy, which would wake all of its threads for each of ours
            np.copyto(buffer[start : start + len(there)].numpy(), there.numpy())

    def split(self, stretch: Tensor) -> Iterator[Tensor]:
        """The tensors, as views of the stretch."""
        for tensor, place in self.tensors:
            yield stretch[place : place + tensor.nbytes].view(tensor.dtype).view(tensor.shape)


class _Buffer:
    """A piece of pinned memory, and the moment from which on it may be written again."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bytes: Tensor | None = None
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def read(self, batch: _Batch, begin: int) -> "_Buffer":
        """Take a piece of a batch; called by a reader."""
        with torch.inference_mode():
            if self._bytes is None:
                self._bytes = main_memory(PIECE)
            self._copied.synchronize()
            batch.read(begin, self._bytes)
        return self

    def copy_to(self, stretch: Tensor, begin: int) -> None:
        """Begin to copy the piece to its place in a stretch of the device's memory."""
        assert self._bytes is not None
        there = stretch[begin : begin + PIECE]
        there.copy_(self._bytes[: len(there)], non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))


@contextmanager
def uploaded(tensors: Iterable[Tensor], device: torch.device) -> Iterator[Iterator[Tensor]]:
    """Tensors of main memory, which may be views of files, one by one on a CUDA device; reading begins at once.

    Each is a view of memory that it shares with those beside it: what is to stay must be copied.
    """
    with ThreadPoolExecutor(READERS) as readers:
        pieces = ((batch, begin) for batch in _batches(tensors) for begin in batch.pieces())
        ahead = deque(
            (batch, begin, readers.submit(_Buffer(device).read, batch, begin))
            for batch, begin in islice(pieces, BUFFERS)
        )
        yield _arriving(ahead, pieces, readers, device)


def _arriving(
    ahead: deque[tuple[_Batch, int, Future[_Buffer]]],
    pieces: Iterator[tuple[_Batch, int]],
    readers: ThreadPoolExecutor,
    device: torch.device,
) -> Iterator[Tensor]:
    """The tensors in order; each buffer that was copied from reads the next piece."""
    while ahead:
        batch, begin, read = ahead.popleft()
        if begin == 0:
            stretch = torch.empty(batch.size, dtype=torch.uint8, device=device)
        buffer = read.result()
        buffer.copy_to(stretch, begin)
        for following, place in islice(pieces, 1):
            ahead.append((following, place, readers.submit(buffer.read, following, place)))
        if begin == batch.pieces()[-1]:
            yield from batch.split(stretch)


def _batches(tensors: Iterable[Tensor]) -> Iterator[_Batch]:
    """Small tensors together, until they fill a piece."""
    batch = _Batch()
    for tensor in tensors:
        batch.add(tensor.detach().contiguous())
        if batch.size >= PIECE:
            yield batch
            batch = _Batch()
    if batch.tensors:
        yield batch


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
