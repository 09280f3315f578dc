"""What is said of a clip that is done, or of one that could not be made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinescribe.cli.batch import Item
from kinescribe.cli.source import Source
from kinescribe.cli.terminal import Terminal
from kinescribe.errors import KinescribeError, MemoryLimitError
from kinescribe.media.output import free_name
from kinescribe.media.video import Video
from kinescribe.pipelines.memory import REMEDIES, is_out_of_memory


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How clips are saved and reported."""

    overwrite: bool
    metadata: bool
    sheet: bool
    as_json: bool


def write(video: Video, target: str, saving: Saving, *, source: Source | None) -> dict[str, Any]:
    """Write a clip, and its sheet if one is wanted; what there is to say of it, by name.

    The sheet spares `source`, the picture that was put in.
    """
    path = video.save(target, overwrite=saving.overwrite, metadata=saving.metadata)
    facts = _facts(video, path)
    if saving.sheet:
        facts["sheet"] = str(_sheet(video, path, saving, source))
    return facts


def say_done(facts: dict[str, Any], seconds: float, saving: Saving, terminal: Terminal) -> None:
    """One line, or one JSON object, for a clip that took so many seconds."""
    facts["seconds"] = round(seconds, 2)
    if saving.as_json:
        terminal.data(facts)
        return
    size = f"{facts['width']}x{facts['height']}"
    said = [size, f"{facts['frames']} frames", f"seed {facts['seed']}", f"{facts['seconds']} s"]
    if "similarity" in facts:
        said.append(f"first frame like the picture {facts['similarity']:.2f} of 1")
    if "motion" in facts:
        said.append(f"motion {facts['motion']:.1f}")
    terminal.result(f"{facts['path']}  {', '.join(said)}")


def say_failed(item: Item, error: Exception, saving: Saving, terminal: Terminal) -> str:
    """One line for a clip of many that could not be made; its label back."""
    code = error.exit_code if isinstance(error, KinescribeError) else 1
    if is_out_of_memory(error):
        error, code = MemoryLimitError("out of memory: " + REMEDIES["denoising"]), MemoryLimitError.exit_code
    text = str(error) if isinstance(error, KinescribeError) else f"{type(error).__name__}: {error}"
    if saving.as_json:
        terminal.data({"item": item.label, "error": text, "exit_code": code})
    terminal.complain(f"error: {item.label}: {text}")
    return item.label


def _sheet(video: Video, path: Path, saving: Saving, source: Source | None) -> Path:
    from kinescribe.media.sheet import write_sheet

    name = path.with_suffix(".png")
    if path.is_dir() or (
        source is not None and name.exists() and name.samefile(Path(source.path).expanduser())
    ):
        name = path.with_name(f"{path.stem if path.is_file() else path.name}-sheet.png")
    name = name if saving.overwrite else free_name(name)
    if saving.metadata:
        return video.sheet(name, overwrite=saving.overwrite)
    return write_sheet(video.frames, name, columns=8, overwrite=saving.overwrite)


def _facts(video: Video, path: Path) -> dict[str, Any]:
    from kinescribe.media.recipe import Recipe

    recipe = Recipe.model_validate(video.recipe)
    return {
        "path": str(path),
        "width": video.size[0],
        "height": video.size[1],
        "frames": len(video.frames),
        "fps": video.fps,
        "seed": recipe.request.seed,
        "prompt": recipe.request.prompt,
        "kind": recipe.kind,
        "model": recipe.model,
        "recipe": recipe.hash(),
    }
