"""Timing done right: warm up, let the device finish, take the median; a GPU's own clock where there is one."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Times:
    """Seconds that the same work took, run after run; at least one."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, which a single slow run does not move."""
        return median(self.seconds)


@dataclass(frozen=True)
class Walk(Generic[T]):
    """A generator run to its end: its last item, and the seconds that each of its items took."""

    last: T
    intervals: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """From the first request to the end."""
        return sum(self.intervals)


class Marks:
    """Moments in the work of a device. In a GPU's stream they are events, so that the host need not wait."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[torch.cuda.Event] = []
        self._moments: list[float] = []

    def mark(self) -> None:
        """Note the moment at which all that was asked of the device so far is done."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            finish(self._device)
            self._moments.append(time.perf_counter())

    def intervals(self) -> tuple[float, ...]:
        """Seconds between each mark and the next; waits for the device."""
        finish(self._device)
        if self._events:
            pairs = zip(self._events, self._events[1:], strict=False)
            return tuple(begin.elapsed_time(end) / 1000 for begin, end in pairs)
        pairs_of_moments = zip(self._moments, self._moments[1:], strict=False)
        return tuple(end - begin for begin, end in pairs_of_moments)


def timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds of ``work``, to the end of what it asked of ``device``, and its result."""
    marks = Marks(device)
    finish(device)
    marks.mark()
    result = work()
    marks.mark()
    return sum(marks.intervals()), result


def repeated(work: Callable[[], object], device: torch.device, *, runs: int) -> Times:
    """``work`` timed ``runs`` times after one that does not count; its results are let go."""
    work()
    return Times(tuple(timed(work, device)[0] for _ in range(runs)))


def walked(events: Iterable[T], device: torch.device) -> Walk[T]:
    """Run a generator to its end and time each of its items; raises ``ValueError`` if it has none."""
    marks, items = Marks(device), []
    finish(device)
    marks.mark()
    for event in events:
        items = [event]  # the last one alone is kept, for the others may be large
        marks.mark()
    if not items:
        raise ValueError("nothing to time: the generator gave no item")
    return Walk(items[0], marks.intervals())


def finish(device: torch.device) -> None:
    """Wait until a device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def forget_peak(device: torch.device) -> None:
    """Begin to watch the most memory anew; a processor's figure is that of the process, from its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The most memory in use: allocated on a GPU, else by this process; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
