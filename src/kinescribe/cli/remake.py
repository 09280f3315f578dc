"""`kinescribe remake`: a clip's recipe carried out again."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import Kind, find_spec
from kinescribe.cli import flags
from kinescribe.cli.batch import Item
from kinescribe.cli.engine import Engine
from kinescribe.cli.inspect import Clip
from kinescribe.cli.loras import LoraChoice, remade_loras
from kinescribe.cli.make import make_one
from kinescribe.cli.source import Source, name_after, read_source
from kinescribe.cli.terminal import Speaker, Terminal
from kinescribe.cli.work import second_after
from kinescribe.errors import OptionError
from kinescribe.media.read import read_recipe
from kinescribe.media.recipe import AnyRequest, Recipe
from kinescribe.options import (
    ImageToVideo,
    TextToVideo,
    VideoToVideo,
    image_to_video,
    text_to_video,
    video_to_video,
)

BUILDERS: dict[Kind, Callable[..., AnyRequest]] = {
    "text-to-video": text_to_video,
    "image-to-video": image_to_video,
    "video-to-video": video_to_video,
}


@flags.second_flags
@flags.request_flags(TextToVideo, ImageToVideo, VideoToVideo)
def remake(
    clip: Clip,
    /,
    *,
    model: Annotated[str | None, Parameter(help="Another model than the recipe names.")] = None,
    image: Annotated[str | None, Parameter(help="The picture that the clip was made from.")] = None,
    source_clip: Annotated[
        str | None, Parameter(name="--clip", help="The clip that the clip was made from.")
    ] = None,
    making: flags.Making = flags.USUAL,
    refining: flags.Refining = flags.UNREFINED,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Make a clip again from its own recipe, as it was or with changes.

    Without changes, from the same picture or clip, on the same kind of device and with the same versions, every
    frame is the same. Of a clip made in two stages the --refine-... flags change the second.
    """
    typed, again = flags.two_stages(fields, making.size, refining.refine_size)
    recipe = Recipe.model_validate(read_recipe(clip))
    first, last = _stages(recipe, source_clip)
    request = BUILDERS[first.kind](**{**_fields(first), **typed})
    loras, later_loras = remade_loras(first, last, making.loras)
    name, known_hash = model or known_model(first.model, "--model"), None if model else first.model_hash
    engine = making.engine(name, first.kind, known_hash, loras=loras)
    second, refined = refining.engine(making, again, after=engine) if last is None else None, None
    if last is not None:
        second = _second_engine(last, refining, making, later_loras)
        both = {name: value for name, value in typed.items() if name in ("prompt", "seed")}
        refined = video_to_video(**{**_fields(last), **both, **again})
    elif second is not None:
        refined = second_after(request, again)
    judge = making.judge(engine, second)
    for prompt in {request.prompt, refined.prompt if refined else ""}:
        judge(prompt)
    item = Item(
        label="remake",
        request=request,
        error=None,
        target=making.output or name_after(clip, "-remake", overwrite=making.overwrite),
        source=_source(first, image, source_clip, terminal),
        second=refined,
    )
    make_one(item, engine, making.saving(), terminal, second=second)


def _stages(recipe: Recipe, source_clip: str | None) -> tuple[Recipe, Recipe | None]:
    """The recipe of the first stage and, if there is one, of the second; one that is given is the first."""
    if recipe.before is None or source_clip is not None:
        return recipe, None
    if recipe.before.before is not None:
        raise OptionError(
            "the clip was made in three steps or more: give the one before the last with --clip"
        )
    return recipe.before, recipe


def _fields(recipe: Recipe) -> dict[str, Any]:
    return recipe.request.model_dump(exclude_none=True)


def _second_engine(
    last: Recipe, refining: flags.Refining, making: flags.Making, loras: Sequence[LoraChoice]
) -> Engine:
    other = refining.refine_model
    name = other or known_model(last.model, "--refine-model")
    return making.engine(name, "video-to-video", None if other else last.model_hash, loras=loras)


def _source(first: Recipe, image: str | None, clip: str | None, terminal: Terminal) -> Source | None:
    """The picture or clip that the first stage takes, with a warning if it is another one than before."""
    given = {"image-to-video": ("--image", image), "video-to-video": ("--clip", clip)}
    flag, path = given.pop(first.kind, ("", None))
    for other, unused in given.values():
        if unused is not None:
            raise OptionError(f"{other}: the recipe is one of {first.kind}, which takes none: leave it out")
    if not flag:
        return None
    name = first.source.name if first.source else "a file"
    if path is None:
        raise OptionError(f"the clip was made from {name!r}, which it does not hold: add {flag} FILE")
    source = read_source(path, first.kind)
    if first.source is not None and source.facts.sha256 != first.source.sha256:
        terminal.note(f"warning: {path} is not what the clip was made from ({name}): the frames will differ")
    return source


def known_model(name: str, flag: str) -> str:
    """`name` if it is a model of the catalogue or the store; a recipe must not open a folder of its choice."""
    from kinescribe.checkpoints.store import list_models, models_root

    if find_spec(name) is not None:
        return name
    if name in {stored.name for stored in list_models() if stored.path is not None}:
        return str(models_root() / name)
    raise OptionError(f"the recipe names the model {name!r}, which is not known here: add {flag} FOLDER")
