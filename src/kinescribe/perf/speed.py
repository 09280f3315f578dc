"""How fast a device is, measured in some milliseconds: products, copies within it, copies to it."""

from dataclasses import dataclass
from functools import cache

import torch

from kinescribe.perf.measure import repeated

RUNS = 3
SIDE = {"cuda": 4096, "mps": 2048, "cpu": 1024}
"""Rows of the square matrices that are multiplied."""
COPIED = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Operations and bytes a second; ``link`` is the way from main memory, None where that is the device's own."""

    matrix: float
    copy: float
    link: float | None


@cache
def speeds(device: torch.device, dtype: torch.dtype) -> Speeds:
    """What a device of this machine reaches now, with the threads torch has now."""
    side = SIDE[device.type]
    # random: a GPU draws less power for equal numbers, and runs faster than it will
    a = torch.randn(side, side, device=device).to(dtype)
    source, target = (torch.zeros(COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    matrix = repeated(lambda: a @ a, device, runs=RUNS).median
    copy = repeated(lambda: target.copy_(source), device, runs=RUNS).median
    link = None
    if device.type == "cuda":
        pinned = torch.zeros(COPIED, dtype=torch.uint8, pin_memory=True)
        link = COPIED / repeated(lambda: target.copy_(pinned), device, runs=RUNS).median
    return Speeds(matrix=2 * side**3 / matrix, copy=2 * COPIED / copy, link=link)
