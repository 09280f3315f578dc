"""Progress of one clip on stderr: a bar with the time left on a terminal, a few plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from kinescribe.cli.terminal import Terminal, visible
from kinescribe.media.video import Video

PLAIN_LINES = 4
USUAL = "denoising"


@runtime_checkable
class Display(Protocol):
    """Something that shows stages and steps."""

    def stage(self, name: str) -> None:
        """A stage of unknown length begins."""

    def step(self, index: int, total: int, stage: str) -> None:
        """Step `index` (from 1) of `total` of a stage is done."""


@contextmanager
def display(terminal: Terminal, title: str = "") -> Iterator[Display]:
    """A bar on a terminal, lines elsewhere, nothing when quiet; cleared away at the end."""
    if not terminal.live:
        yield Lines(terminal, title)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        yield Bar(bars, visible(title))


def watch(events: Iterable[Any], shown: Display, begin: str = "reading the prompt") -> Any:
    """Run a generation to its end, showing each step; the video back, or the list of them."""
    shown.stage(begin)
    for event in events:
        if isinstance(event, Video | list):
            return event
        shown.step(event.index, event.total, event.stage)
        if event.index == event.total and "inverting" not in event.stage:
            shown.stage("decoding frames")
    raise RuntimeError("the pipeline ended without a video")


class Lines:
    """Progress for logs and pipes: a line at the start, and about every quarter of the steps."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        self._terminal, self._title = terminal, f"{title}: " if title else ""
        self._clock = Clock()

    def stage(self, name: str) -> None:
        """Say which stage begins."""
        self._clock.start()
        self._terminal.note(f"{self._title}{name}")

    def step(self, index: int, total: int, stage: str) -> None:
        """Say where the work stands, at most `PLAIN_LINES` times a stage."""
        left = self._clock.tick(index, total)
        if index * PLAIN_LINES // total > (index - 1) * PLAIN_LINES // total:
            where = f"{self._title}{stage}: " if stage != USUAL else self._title
            self._terminal.note(f"{where}step {index} of {total}, {self._clock.speed}, {left:.0f} s left")


class Bar:
    """Progress for people."""

    def __init__(self, bars: Progress, title: str) -> None:
        self._bars, self._title = bars, f"{title}  " if title else ""
        self._task: TaskID | None = None
        self._clock = Clock()

    def stage(self, name: str) -> None:
        """Replace the bar by one of unknown length."""
        self._clock.start()
        self._new(name, None)

    def step(self, index: int, total: int, stage: str) -> None:
        """Move the bar; the first step replaces that of the stage before."""
        self._clock.tick(index, total)
        if index == 1 or self._task is None:
            self._new(stage, total)
        if self._task is not None:
            self._bars.update(self._task, completed=index, count=f"{index}/{total}", speed=self._clock.speed)

    def _new(self, name: str, total: int | None) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(self._title + name, total=total, count="", speed="")


class Clock:
    """Seconds a step takes: the median, which a slow first step does not spoil."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._steps: list[float] = []

    def start(self) -> None:
        """Begin to time a step now."""
        self._last = time.monotonic()

    def tick(self, index: int, total: int) -> float:
        """Note the end of step `index` (from 1) of `total`; the seconds that the others will take."""
        now = time.monotonic()
        if index == 1:
            self._steps.clear()
        self._steps.append(now - self._last)
        self._last = now
        return (total - index) * median(self._steps)

    @property
    def speed(self) -> str:
        """Seconds a step, in words."""
        return f"{median(self._steps):.2g} s a step" if self._steps else ""
