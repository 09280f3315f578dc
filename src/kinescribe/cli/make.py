"""Carry out planned clips: load once, make each, save it, report it, and sum up."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kinescribe.catalog import ModelSpec, find_spec
from kinescribe.cli.batch import Item, finished
from kinescribe.cli.progress import display, watch
from kinescribe.cli.terminal import Terminal
from kinescribe.errors import BatchError, KinescribeError, MemoryLimitError, OptionError, PromptWarning
from kinescribe.media.output import check_output, free_name
from kinescribe.media.video import Video
from kinescribe.options import TextToVideo
from kinescribe.pipelines.memory import REMEDIES, is_out_of_memory


@runtime_checkable
class Pipeline(Protocol):
    """What is needed of a loaded model; `kinescribe.load` gives one."""

    spec: ModelSpec
    components: Any

    def stream(self, prompt: TextToVideo) -> Iterator[Any]:
        """Steps, then the video."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How clips are saved and reported."""

    overwrite: bool
    metadata: bool
    sheet: bool
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Which model runs, and where."""

    model: str
    device: str
    dtype: str

    def load(self, terminal: Terminal) -> Pipeline:
        """Load the model; torch is imported here and not before."""
        with display(terminal) as shown:
            shown.stage(f"loading {self.model}")
            from kinescribe.pipelines.load import load

            pipeline = load(self.model, device=self.device, dtype=self.dtype)
        spec, components = pipeline.spec, pipeline.components
        dtype = str(components.dtype).removeprefix("torch.")
        terminal.note(
            f"{spec.name} on {components.device} in {dtype}; licence of its weights: {spec.licence}"
        )
        if not spec.embedded and spec.notes:
            terminal.note(f"known of {spec.name}: {'; '.join(spec.notes)}")
        return pipeline


def check_requests(requests: Sequence[TextToVideo], model: str) -> None:
    """Check sizes against the model's grid before anything is loaded, where the catalogue knows the model."""
    spec = find_spec(model)
    if spec is not None:
        from kinescribe.pipelines.settings import resolve

        for request in requests:
            resolve(request, spec)


def make_one(
    item: Item, engine: Engine, saving: Saving, terminal: Terminal, *, expected_hash: str | None = None
) -> None:
    """Make a single clip; every error ends the command with its own exit code.

    A model whose weights have another hash than `expected_hash` gets a warning: the frames will differ.
    """
    assert item.request is not None
    check_requests([item.request], engine.model)
    check_output(item.target, saving.overwrite)
    pipeline = engine.load(terminal)
    if expected_hash is not None and pipeline.components.model_hash != expected_hash:
        terminal.note(
            f"warning: the clip was made with other weights of {engine.model}: the frames will differ"
        )
    _make(item.request, item.target, pipeline, saving, terminal)


def make_all(
    items: Sequence[Item], engine: Engine, saving: Saving, terminal: Terminal, *, resume: Path | None
) -> None:
    """Make many clips: a failure is reported and the rest goes on; BatchError at the end if any failed.

    With `resume`, a clip whose recipe is found in that folder is passed over, and a taken name gets a number.
    """
    wanted = [item for item in items if item.request is not None]
    failed = [_report_failure(item, item.error, saving, terminal) for item in items if item.error is not None]
    skipped = 0
    if wanted:
        check_output(wanted[0].target, overwrite=saving.overwrite or resume is not None)
        pipeline = engine.load(terminal)
        done = finished(resume) if resume is not None and not saving.overwrite else {}
        for item in wanted:
            assert item.request is not None
            there = done.get(_hash(item.request, pipeline)) if done else None
            if there is not None:
                skipped += 1
                terminal.note(f"{item.label}: done before, {there.name}")
                continue
            try:
                target = _target(item, saving, resume)
                check_output(target, saving.overwrite)
                _make(item.request, target, pipeline, saving, terminal, label=item.label)
            except KeyboardInterrupt:
                if resume is not None:
                    terminal.complain(f"stopped at {item.label}: the same command goes on from there")
                raise
            except Exception as error:  # noqa: BLE001 - a night's work must not end with one line
                failed.append(_report_failure(item, error, saving, terminal))
    made = len(items) - len(failed) - skipped
    summary = f"{made} made, {skipped} done before, {len(failed)} failed"
    if failed:
        raise BatchError(f"{summary} ({', '.join(failed)}); run the same command again for those")
    terminal.note(summary)


def _hash(request: TextToVideo, pipeline: Pipeline) -> str:
    from kinescribe.media.recipe import recipe_hash
    from kinescribe.pipelines.settings import resolve

    try:
        return recipe_hash(resolve(request, pipeline.spec).request(), pipeline.components.model_hash)
    except KinescribeError:
        return ""  # a request this model cannot do: reported when its turn comes


def _target(item: Item, saving: Saving, resume: Path | None) -> str:
    if resume is None or saving.overwrite:
        return item.target
    return str(free_name(Path(item.target)))


def _make(
    request: TextToVideo,
    target: str,
    pipeline: Pipeline,
    saving: Saving,
    terminal: Terminal,
    *,
    label: str = "",
) -> None:
    started = time.monotonic()
    with display(terminal, label) as shown:
        try:
            video = watch(pipeline.stream(request), shown)
        except PromptWarning as warning:  # made an error by --strict-prompt
            raise OptionError(f"{warning} (--strict-prompt)") from None
        shown.stage("writing")
        path = video.save(target, overwrite=saving.overwrite, metadata=saving.metadata)
    facts = _facts(video, path, time.monotonic() - started)
    if saving.sheet:
        facts["sheet"] = str(_sheet(video, path, saving))
    if saving.as_json:
        terminal.data(facts)
        return
    size = f"{facts['width']}x{facts['height']}"
    terminal.result(f"{path}  {size}, {facts['frames']} frames, seed {facts['seed']}, {facts['seconds']} s")


def _sheet(video: Video, path: Path, saving: Saving) -> Path:
    from kinescribe.media.sheet import write_sheet

    name = path.with_name(f"{path.name}-sheet.png") if path.is_dir() else path.with_suffix(".png")
    name = name if saving.overwrite else free_name(name)
    if saving.metadata:
        return video.sheet(name, overwrite=saving.overwrite)
    return write_sheet(video.frames, name, columns=8, overwrite=saving.overwrite)


def _facts(video: Video, path: Path, seconds: float) -> dict[str, Any]:
    from kinescribe.media.recipe import Recipe

    recipe = Recipe.model_validate(video.recipe)
    return {
        "path": str(path),
        "width": video.size[0],
        "height": video.size[1],
        "frames": len(video.frames),
        "fps": video.fps,
        "seed": recipe.request.seed,
        "seconds": round(seconds, 2),
        "prompt": recipe.request.prompt,
        "model": recipe.model,
        "recipe": recipe.hash(),
    }


def _report_failure(item: Item, error: Exception, saving: Saving, terminal: Terminal) -> str:
    code = error.exit_code if isinstance(error, KinescribeError) else 1
    if is_out_of_memory(error):
        error, code = MemoryLimitError("out of memory: " + REMEDIES["denoising"]), MemoryLimitError.exit_code
    text = str(error) if isinstance(error, KinescribeError) else f"{type(error).__name__}: {error}"
    if saving.as_json:
        terminal.data({"item": item.label, "error": text, "exit_code": code})
    terminal.complain(f"error: {item.label}: {text}")
    return item.label


def require_prompts(prompts: Sequence[str]) -> None:
    """OptionError that shows how it is done, if there is no prompt."""
    if not prompts:
        raise OptionError(
            'no prompt: say what the clip shows, as in kinescribe generate "a red ball rolls over the beach"'
        )
