"""Carry out planned clips: load once, make each, save it, report it, and sum up."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kinescribe.catalog import Kind
from kinescribe.cli.batch import Item, alike, finished
from kinescribe.cli.engine import Engine, Pipeline
from kinescribe.cli.progress import Display, display, watch
from kinescribe.cli.prompts import strictly
from kinescribe.cli.report import Saving, say_done, say_failed, write
from kinescribe.cli.terminal import Terminal
from kinescribe.cli.work import check, events, figures, hash_before, picture_note, require_room, spoken
from kinescribe.errors import BatchError, KinescribeError, MemoryLimitError
from kinescribe.media.output import check_output, free_name
from kinescribe.media.video import Video
from kinescribe.pipelines.memory import is_out_of_memory, release

TOGETHER = 4
"""Clips made at once on a GPU; a processor makes one at a time, and finishes the first one sooner."""
READING: dict[Kind, str] = {
    "text-to-video": "reading the prompt",
    "image-to-video": "reading the picture",
    "video-to-video": "reading the clip",
}


def make_one(
    item: Item, engine: Engine, saving: Saving, terminal: Terminal, *, second: Engine | None = None
) -> None:
    """Make a single clip; every error ends the command with its own exit code.

    With a second stage, the first model is freed before the second is loaded.
    """
    item = spoken(item, engine.spec)
    check(item, engine, second)
    check_output(item.target, saving.overwrite)
    for each in filter(None, (engine, second)):
        each.require_here()
    require_room(item, engine, second)
    with display(terminal) as shown:
        pipeline = engine.load(terminal, shown)
    note = picture_note(item, pipeline.spec)
    if note:
        terminal.note(note)
    started = time.monotonic()
    first: list[Video] = []
    with display(terminal) as shown, _kept(first, item, saving, terminal):
        with strictly():
            load_second = partial(_loaded, second, terminal, shown)
            steps = events(item, pipeline, load_second, keeping_first=False, made=first.append)
            video = watch(steps, shown, READING[engine.task])
        shown.stage("writing")
        facts = write(video, item.target, saving, source=item.source)
    if second is not None or engine.task == "video-to-video":  # of a picture the last line says as much
        what = item.source.facts.name if item.source is not None and second is None else "refining"
        for line in video.notes:
            terminal.note(f"{what}: {line}")
    facts |= figures(item, pipeline.spec, video)
    say_done(facts, time.monotonic() - started, saving, terminal)


@contextmanager
def _kept(first: list[Video], item: Item, saving: Saving, terminal: Terminal) -> Iterator[None]:
    """If a second stage fails, the clip of the first one is saved under a name of its own."""
    try:
        yield
    except Exception:
        target = Path(item.target)
        name = free_name(target.with_name(f"{target.stem}-unrefined{target.suffix}"))
        with suppress(KinescribeError):  # what went wrong before says more
            for video in first:
                path = video.save(name, metadata=saving.metadata)
                terminal.complain(f"the clip of the first stage is kept: {path}")
        raise


def _loaded(second: Engine | None, terminal: Terminal, shown: Display) -> Pipeline:
    assert second is not None
    pipeline = second.load(terminal, shown)
    shown.stage("reading the clip")
    return pipeline


def make_all(
    items: Sequence[Item],
    engine: Engine,
    saving: Saving,
    terminal: Terminal,
    *,
    resume: Path | None,
    second: Engine | None = None,
) -> None:
    """Make many clips: a failure is reported and the rest goes on; BatchError at the end if any failed.

    With `resume`, a clip whose recipe is found in that folder is passed over, and a taken name gets a number. With
    a second stage both models stay loaded.
    """
    wanted = [item for item in items if item.request is not None]
    failed = [say_failed(item, item.error, saving, terminal) for item in items if item.error is not None]
    skipped = 0
    if wanted:
        check_output(wanted[0].target, overwrite=saving.overwrite or resume is not None)
        with display(terminal) as shown:
            pipeline = engine.load(terminal, shown)
            refiner = None if second is None else second.load(terminal, shown)
        run = _Run(pipeline, refiner, saving, terminal, resume)
        new = run.new(wanted)
        skipped = len(wanted) - len(new)
        try:
            run.make(new)
        except KeyboardInterrupt:
            if resume is not None:
                terminal.complain(f"stopped at {run.at}: the same command goes on from there")
            raise
        failed += run.failed
    made = len(items) - len(failed) - skipped
    summary = f"{made} made, {skipped} done before, {len(failed)} failed"
    if failed:
        raise BatchError(f"{summary} ({', '.join(failed)}); run the same command again for those")
    terminal.note(summary)


@dataclass
class _Run:
    """Many clips of one model. What fails together is tried again in halves, so that a fault costs one clip.

    `together` clips are made at once; `at` is the label of the clip in work.
    """

    pipeline: Pipeline
    second: Pipeline | None
    saving: Saving
    terminal: Terminal
    resume: Path | None
    failed: list[str] = field(default_factory=list)
    together: int = field(init=False)
    at: str = ""

    def __post_init__(self) -> None:
        alone = self.second is not None or str(self.pipeline.components.device).startswith("cpu")
        self.together = 1 if alone else TOGETHER

    def new(self, wanted: list[Item]) -> list[Item]:
        """The items whose clips are not in the folder of `resume` yet; a line for each of the others."""
        done = finished(self.resume) if self.resume is not None and not self.saving.overwrite else {}
        new = []
        for item in wanted:
            there = done.get(hash_before(item, self.pipeline, lambda: self.second)) if done else None
            if there is None:
                new.append(item)
            else:
                self.terminal.note(f"{item.label}: done before, {there.name}")
        return new

    def make(self, items: Sequence[Item]) -> None:
        """Make and save each; a failure is reported and the rest goes on."""
        while items:
            count = alike(items[: self.together])
            self._batch(items[:count])
            items = items[count:]

    def _batch(self, items: Sequence[Item]) -> None:
        started = time.monotonic()
        try:
            videos = self._videos(items)
        except Exception as error:  # noqa: BLE001 - a night's work must not end with one line
            if len(items) == 1:
                self._fail(items[0], error)
                return
            memory = isinstance(error, MemoryLimitError) or is_out_of_memory(error)
        else:
            share = (time.monotonic() - started) / len(items)
            for item, video in zip(items, videos, strict=True):
                self._save(item, video, share)
            return
        half = len(items) // 2
        if not memory:
            self._batch(items[:half])
            self._batch(items[half:])
            return
        release()  # here, where the error no longer holds what was computed
        self.together = half
        self.terminal.note(f"memory ran out for {len(items)} clips at once: going on with {half}")
        self.make(items)

    def _videos(self, items: Sequence[Item]) -> list[Video]:
        self.at = items[0].label
        for item in items:
            check_output(self._target(item), self.saving.overwrite)
        label = self.at + (f" and {len(items) - 1} more" if len(items) > 1 else "")
        with display(self.terminal, label) as shown, strictly():
            if len(items) == 1:
                return [self._alone(items[0], shown)]
            requests = [item.request for item in items if item.request is not None]
            shared: dict[str, Any] = requests[0].model_dump(exclude_none=True, exclude={"prompt"})
            return watch(self.pipeline.stream([request.prompt for request in requests], **shared), shown)

    def _alone(self, item: Item, shown: Display) -> Video:
        first: list[Video] = []
        with _kept(first, item, self.saving, self.terminal):
            steps = events(item, self.pipeline, lambda: self.second, keeping_first=True, made=first.append)
            return watch(steps, shown)

    def _save(self, item: Item, video: Video, seconds: float) -> None:
        self.at, started = item.label, time.monotonic()
        try:
            facts = write(video, self._target(item), self.saving, source=None)
        except Exception as error:  # noqa: BLE001 - the same
            self._fail(item, error)
            return
        for line in video.notes:
            self.terminal.note(f"{item.label}: {line}")
        say_done(facts, seconds + time.monotonic() - started, self.saving, self.terminal)

    def _fail(self, item: Item, error: Exception) -> None:
        self.failed.append(say_failed(item, error, self.saving, self.terminal))

    def _target(self, item: Item) -> str:
        if self.resume is None or self.saving.overwrite:
            return item.target
        return str(free_name(Path(item.target)))
