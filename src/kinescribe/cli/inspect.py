"""`kinescribe inspect` and `kinescribe remake`: a clip's recipe, shown or carried out again."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import find_spec
from kinescribe.cli import flags
from kinescribe.cli.batch import Item
from kinescribe.cli.generate import policy_from
from kinescribe.cli.make import Engine, Saving, make_one
from kinescribe.cli.terminal import Speaker, Terminal
from kinescribe.errors import KinescribeError, OptionError
from kinescribe.options import text_to_video

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
    else:
        _print(facts, terminal)


def _print(facts: dict[str, Any], terminal: Terminal) -> None:
    recipe = facts.pop("recipe") or {}
    request = recipe.pop("request", {})
    for name, value in {**facts, **request, **recipe}.items():
        terminal.result(f"{name.replace('_', ' '):<17} {value}")


@flags.request_flags()
def remake(
    clip: Clip,
    /,
    *,
    output: flags.Output = None,
    model: Annotated[str | None, Parameter(help="Another model than the recipe names.")] = None,
    size: flags.Size = None,
    device: flags.Device = "auto",
    dtype: flags.DType = "auto",
    sheet: flags.Sheet = False,
    overwrite: flags.Overwrite = False,
    as_json: flags.AsJson = False,
    without_metadata: flags.WithoutMetadata = False,
    policy_file: flags.PolicyFile = None,
    without_policy: flags.WithoutPolicy = False,
    strict_prompt: flags.StrictPrompt = False,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Make a clip again from its own recipe, as it was or with changes.

    Without changes, on the same kind of device and with the same versions, every frame is the same.
    """
    from kinescribe.media.output import free_name
    from kinescribe.media.read import read_recipe
    from kinescribe.media.recipe import Recipe

    if strict_prompt:
        flags.refuse_doubtful_prompts()
    recipe = Recipe.model_validate(read_recipe(clip))
    before = recipe.request.model_dump(exclude_none=True)
    request = text_to_video(**{**before, **flags.with_size(fields, size)})
    if not without_policy:
        policy_from(policy_file)(request.prompt)
    source = Path(clip).absolute()
    beside = source.with_name(f"{source.stem}-remake{source.suffix}")
    target = output or str(beside if overwrite else free_name(beside))
    make_one(
        Item(label="remake", request=request, error=None, target=target),
        Engine(model=model or known_model(recipe.model), device=device, dtype=dtype),
        Saving(overwrite=overwrite, metadata=not without_metadata, sheet=sheet, as_json=as_json),
        terminal,
        expected_hash=recipe.model_hash if model is None else None,
    )


def known_model(name: str) -> str:
    """`name` if it is a model of the catalogue or the store; a recipe must not open a folder of its choice."""
    from kinescribe.checkpoints.store import list_models, models_root

    if find_spec(name) is not None:
        return name
    if name in {stored.name for stored in list_models() if stored.path is not None}:
        return str(models_root() / name)
    raise OptionError(f"the recipe names the model {name!r}, which is not known here: add --model FOLDER")
