"""Requests to plan, and the published models in their full size, without numbers."""

import torch

from kinescribe.catalog import CATALOG
from kinescribe.perf.demand import Work
from kinescribe.perf.outline import Outline, published
from kinescribe.perf.plan import RUNGS, Rung


def request(frames: int, width: int, height: int, *, encoded: int = 0, guided: bool = True) -> Work:
    """One clip in one window, 25 passes."""
    return Work(
        frames=frames, window=frames, width=width, height=height, clips=1, guided=guided, passes=25, encoded=encoded
    )  # fmt: skip


def full_size(name: str) -> Outline:
    """A published model in half precision."""
    return published(CATALOG[name], torch.float16, torch.float16)


def rung_named(name: str) -> Rung:
    """A rung of the ladder."""
    return next(rung for rung in RUNGS if rung.name == name)
