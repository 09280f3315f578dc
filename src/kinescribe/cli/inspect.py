"""`kinescribe inspect`: what a clip is, and the recipe it holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.checkpoints.files import WEIGHT_SUFFIXES
from kinescribe.cli import flags
from kinescribe.cli.terminal import Speaker, Terminal
from kinescribe.errors import KinescribeError

Clip = Annotated[str, Parameter(help="A clip: .mp4, .webm, .gif, .webp, or a folder of PNG frames.")]
ClipOrLora = Annotated[
    str, Parameter(name="clip", help="A clip: .mp4, .webm, .gif, .webp, a folder of PNG frames; or a LoRA.")
]


def inspect(clip: ClipOrLora, *, as_json: flags.AsJson = False, terminal: Speaker) -> None:
    """Show what a clip is and how it was made, or what a LoRA is."""
    if Path(clip).suffix.lower() in WEIGHT_SUFFIXES or (Path(clip) / "adapter_config.json").is_file():
        say_lora(Path(clip), as_json=as_json, terminal=terminal)
        return
    from kinescribe.media.read import read_recipe, read_video

    video = read_video(clip)
    facts: dict[str, Any] = {
        "path": str(Path(clip).absolute()),
        "width": video.size[0],
        "height": video.size[1],
        "frames": len(video.frames),
        "fps": round(video.fps, 3),
    }
    try:
        facts["recipe"] = read_recipe(clip)
    except KinescribeError as error:
        facts["recipe"] = None
        terminal.note(str(error))
    if as_json:
        terminal.data(facts)
        return
    recipe = facts.pop("recipe") or {}
    for name, value in {**facts, **dict(_told(recipe))}.items():
        terminal.result(f"{name.replace('_', ' '):<17} {value}")


def say_lora(path: Path, *, as_json: bool, terminal: Terminal) -> None:
    """Show what is known of a LoRA without a model."""
    from dataclasses import asdict

    from kinescribe.checkpoints.lora import describe_lora

    facts = asdict(describe_lora(path.expanduser()))
    if as_json:
        terminal.data({"kind": "lora", **facts})
        return
    for name, value in {"kind": "LoRA, added to a model with --lora", **facts}.items():
        shown = ", ".join(str(item) for item in dict.fromkeys(value)) if isinstance(value, tuple) else value
        terminal.result(f"{name.replace('_', ' '):<17} {shown}")


def _told(recipe: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a recipe says, line by line; that of the stage before comes last, under its own heading."""
    rest = dict(recipe)
    before, source, request = rest.pop("before", None), rest.pop("source", None), rest.pop("request", {})
    loras = rest.pop("loras", ())
    if source is not None:
        yield "made from", _in_words(source)
    yield from request.items()
    yield from rest.items()
    if loras:
        said = [f"{lora['name']}, scale {lora['scale']:g}, sha256 {lora['sha256'][:16]}" for lora in loras]
        yield "loras", "; ".join(said)
    if before is not None:
        yield "stage before", f"{before['kind']} with {before['model']}"
        for name, value in _told(before):
            yield f"  {name}", value


def _in_words(source: dict[str, Any]) -> str:
    length = f", {source['frames']} frames at {source['fps']:g} fps" if "fps" in source else ""
    return f"{source['name']}, {source['width']}x{source['height']}{length}, sha256 {source['sha256'][:16]}"
