"""Work on a part of a clip at a time: the same numbers, in less memory."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 1 << 16
"""Vectors worked on together at most: enough to fill a GPU, and a seventh of a clip of 32 x 1280 x 720."""


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
    for start in range(size, count, size):
        length = min(size, count - start)
        out.narrow(axis, start, length).copy_(work(x.narrow(axis, start, length)))
    return out
