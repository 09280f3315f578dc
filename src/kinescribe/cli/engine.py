"""Which model runs and where: found and judged before its weights are read, then loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from kinescribe.catalog import CATALOG, Kind, ModelSpec, default_model, find_spec
from kinescribe.cli.loras import LoraChoice
from kinescribe.cli.progress import Display
from kinescribe.cli.terminal import Terminal
from kinescribe.errors import OptionError
from kinescribe.perf.budget import Memory


@runtime_checkable
class Pipeline(Protocol):
    """What is needed of a loaded model; `kinescribe.load` gives one."""

    spec: ModelSpec
    components: Any

    def stream(self, *asked: Any, **options: Any) -> Iterator[Any]:
        """Steps, then the video; of a list of prompts the list of videos."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A model for a task, and where it runs; `model_hash` is that of the weights which it should have.

    `loras` are added to it; `allow_partial` takes those that it has not all the layers for.
    """

    model: str
    device: str
    dtype: str
    task: Kind
    memory: Memory = "auto"
    model_hash: str | None = None
    loras: tuple[LoraChoice, ...] = ()
    allow_partial: bool = False

    @cached_property
    def spec(self) -> ModelSpec:
        """What the model was made for, before any weights are read; OptionError if that is another task."""
        spec = find_spec(self.model)
        if spec is None or spec.kind != self.task:
            from kinescribe.checkpoints.detect import describe
            from kinescribe.checkpoints.load import locate
            from kinescribe.pipelines.checks import require_kind

            spec = spec or describe(locate(self.model), variant=None, spec=None).spec
            require_kind(spec, self.task)
        return spec

    def require_here(self) -> None:
        """Raise WeightsError, with the command that gets it, for a model or LoRA that is not on this computer."""
        from kinescribe.checkpoints.load import locate

        locate(self.model)
        for lora in self.loras:
            lora.require_here()

    def require_room(self, job: Any) -> None:
        """Raise MemoryLimitError, with what would fit, for settings that memory does not suffice for.

        Of a small model in the package it is asked when it is loaded: that takes no time.
        """
        if not self.spec.embedded:
            from kinescribe.pipelines.planning import require_room

            require_room(self.model, job, device=self.device, dtype=self.dtype, memory=self.memory)

    def load(self, terminal: Terminal, shown: Display) -> Pipeline:
        """Load the model and say which it is; torch is imported here and not before."""
        shown.stage(f"loading {self.model}")
        from kinescribe.pipelines.load import load

        pipeline = load(self.model, task=self.task, device=self.device, dtype=self.dtype, memory=self.memory)
        spec, components = pipeline.spec, pipeline.components
        dtype = str(components.dtype).removeprefix("torch.")
        terminal.note(f"{spec.name} on {components.device} in {dtype}")
        _show_licence(spec, terminal)
        if not spec.embedded and spec.notes:
            terminal.note(f"known of {spec.name}: {'; '.join(spec.notes)}")
        if self.model_hash not in (None, components.model_hash):
            terminal.note(
                f"warning: the clip was made with other weights of {spec.name}: the frames will differ"
            )
        for lora in self.loras:
            found = pipeline.load_lora(lora.path, lora.strength, allow_partial=self.allow_partial)
            terminal.note(f"{found}, scale {lora.strength:g}")
        return pipeline


def _show_licence(spec: ModelSpec, terminal: Terminal) -> None:
    from kinescribe.checkpoints.store import remember_licence

    if not terminal.quiet and remember_licence(spec):
        known = find_spec(spec.name) is not None
        again = f" (said once; kinescribe models show {spec.name} tells it again)" if known else ""
        terminal.note(f"licence of the weights of {spec.name}: {spec.licence}{again}")


def second_model(first: ModelSpec) -> str:
    """The model of a second stage after ``first`` unless told, which is the embedded one.

    Raises OptionError that names all after any but an embedded model: it knows no other world.
    """
    from kinescribe.checkpoints.store import model_folder

    own = default_model("video-to-video")
    if CATALOG.get(first.name, first).embedded:
        return own
    flag = "--refine-model"
    able = [spec for spec in CATALOG.values() if spec.kind == "video-to-video" and not spec.embedded]
    here = [f"{flag} {spec.name} (here)" for spec in able if model_folder(spec)]
    there = [f"{flag} {spec.name}" for spec in able if not model_folder(spec)]
    fetched = [f"{' or '.join(there)} (got by kinescribe models pull NAME)"] if there else []
    ways = ", ".join([*here, *fetched, f"{flag} with the name of a text-to-video model"])
    raise OptionError(
        f"{own}, which comes with the package, knows no clips but those of its own world, and not those of "
        f"{first.name}: use {ways}, or {flag} FOLDER"
    )
