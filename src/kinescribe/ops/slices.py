"""Work on a part of a clip at a time: the same numbers, in less memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor

ROWS = 1 << 16
"""Vectors worked on together unless told: enough to fill a GPU, and a seventh of a clip of 32 x 1280 x 720."""

WHOLE = 1 << 62
"""More vectors than any clip has: nothing is sliced, which spares the copies of slices and needs the most memory."""

PIXELS = 1 << 20
"""Pixels that go through the autoencoder together unless told: enough to fill a device, little memory."""


@dataclass(frozen=True)
class _Budget:
    rows: int = ROWS
    pixels: int = PIXELS
    sampled: bool = False


_USUAL = _Budget()
_BUDGET = ContextVar("budget", default=_USUAL)


def rows_at_once() -> int:
    """Vectors that are worked on together at most, here and now."""
    return _here().rows


def pixels_at_once() -> int:
    """Pixels that go through the autoencoder together at most, here and now; one frame always may."""
    return _here().pixels


def _here() -> _Budget:
    # a compiler cannot look into a ContextVar, and compiled code is for training
    return _USUAL if torch.compiler.is_compiling() else _BUDGET.get()


@contextmanager
def at_most(rows: int | None = None, *, pixels: int | None = None) -> Iterator[None]:
    """Other budgets in this thread while the block runs; None leaves one as it is.

    Not to be held across a ``yield``: whoever runs between the steps would have them too.
    """
    now = _BUDGET.get()
    with _budget(replace(now, rows=rows or now.rows, pixels=pixels or now.pixels)):
        yield


@contextmanager
def sampled() -> Iterator[None]:
    """Only the first two slices of any work are done: what they need all others need too. For counting memory."""
    with _budget(replace(_BUDGET.get(), sampled=True)):
        yield


@contextmanager
def _budget(budget: _Budget) -> Iterator[None]:
    token = _BUDGET.set(budget)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def in_slices(work: Callable[[Tensor], Tensor], x: Tensor, axis: int, size: int) -> Tensor:
    """``work(x)`` for work that never looks along ``axis``: on slices of ``size`` (at least 1), put together.

    Clips (five axes) come out channels-last. With gradients all at once: what a slice would save, the backward
    pass keeps anyway.
    """
    count, size = x.shape[axis], max(size, 1)
    if count <= size or torch.is_grad_enabled():
        return work(x)
    first = work(x.narrow(axis, 0, size))
    shape = [*first.shape[:axis], count, *first.shape[axis + 1 :]]
    layout = torch.channels_last_3d if first.ndim == 5 else torch.contiguous_format
    out = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=layout)
    out.narrow(axis, 0, size).copy_(first)
    del first
    for start in range(size, 2 * size if _here().sampled else count, size):
        length = min(size, count - start)
        out.narrow(axis, start, length).copy_(work(x.narrow(axis, start, length)))
    return out
