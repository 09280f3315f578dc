"""`kinescribe inspect`: what a clip is, and the recipe it holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.cli import flags
from kinescribe.cli.terminal import Speaker
from kinescribe.errors import KinescribeError

Clip = Annotated[str, Parameter(help="A clip: .mp4, .webm, .gif, .webp, or a folder of PNG frames.")]


def inspect(clip: Clip, *, as_json: flags.AsJson = False, terminal: Speaker) -> None:
    """Show what a clip is and how it was made."""
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


def _told(recipe: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a recipe says, line by line; that of the stage before comes last, under its own heading."""
    rest = dict(recipe)
    before, source, request = rest.pop("before", None), rest.pop("source", None), rest.pop("request", {})
    if source is not None:
        yield "made from", _in_words(source)
    yield from request.items()
    yield from rest.items()
    if before is not None:
        yield "stage before", f"{before['kind']} with {before['model']}"
        for name, value in _told(before):
            yield f"  {name}", value


def _in_words(source: dict[str, Any]) -> str:
    length = f", {source['frames']} frames at {source['fps']:g} fps" if "fps" in source else ""
    return f"{source['name']}, {source['width']}x{source['height']}{length}, sha256 {source['sha256'][:16]}"
