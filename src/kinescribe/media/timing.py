"""One even frame rate for frames that a file shows at times of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

USUAL_FPS = 8.0
FASTEST = 1000.0


class Pace(NamedTuple):
    """Which frames to show, one after the other, at `fps`; `note` tells what had to be changed, or is empty."""

    order: list[int]
    fps: float
    note: str


def even(times: Sequence[float | None], stated: float | None) -> Pace:
    """Frames `times`, in seconds, at one rate: the `stated` one if the times keep it, or else their own average.

    A time that strays less than half a frame from the even grid changes nothing. Where one strays further,
    every moment of the grid shows the frame that the file shows then, so that frames are repeated or left out.
    """
    count = len(times)
    known = np.array([np.nan if time is None else time for time in times], np.float64)
    rate = stated if stated is not None and 0 < stated <= FASTEST else None
    whole = list(range(count))
    if count < 2 or not (np.diff(known) > 0).all():
        return Pace(whole, rate or USUAL_FPS, "" if rate else _unknown())
    known -= known[0]
    average = float((count - 1) / known[-1])
    for fps in (rate, average):
        if fps is not None and fps <= FASTEST and _keeps(known, fps):
            return Pace(whole, fps, "")
    if average > FASTEST:
        return Pace(whole, rate or USUAL_FPS, "" if rate else _unknown())
    moments = (np.arange(count) + 0.5) / average
    order = (np.searchsorted(known, moments, side="right") - 1).tolist()
    left_out = count - len(set(order))
    note = f"uneven frame times: made even at {average:.4g} a second, {left_out} of {count} frames left out"
    return Pace(order, average, note)


def _keeps(times: np.ndarray, fps: float) -> bool:
    return bool((np.abs(times * fps - np.arange(len(times))) <= 0.5).all())


def _unknown() -> str:
    return f"the file tells no frame rate: {USUAL_FPS:g} frames a second are assumed"
