"""The work on one clip: judged before anything is loaded, then its steps, through two models if it has two stages."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from kinescribe.catalog import ModelSpec
from kinescribe.cli.batch import Item
from kinescribe.cli.engine import Engine, Pipeline
from kinescribe.errors import KinescribeError
from kinescribe.media.fit import fit_frames, fit_note
from kinescribe.media.recipe import AnyRequest, Recipe, recipe_hash
from kinescribe.media.video import Video
from kinescribe.options import ImageToVideo, TextToVideo, VideoToVideo, video_to_video
from kinescribe.pipelines.settings import (
    AnySettings,
    ClipSettings,
    Settings,
    resolve,
    resolve_clip,
    resolve_picture,
)


def second_after(request: AnyRequest | None, fields: dict[str, Any]) -> VideoToVideo | None:
    """The request of a second stage with its own fields, and the prompt and seed of the first one."""
    if request is None:
        return None
    return video_to_video(**{"prompt": request.prompt, "seed": request.seed, **fields})


def spoken(item: Item, spec: ModelSpec) -> Item:
    """The item, its prompt for the second stage alone where the first model reads none."""
    if item.second is None or item.request is None or spec.picture is None or spec.picture.takes_text:
        return item
    return replace(item, request=item.request.model_copy(update={"prompt": ""}))


def check(item: Item, engine: Engine, second: Engine | None) -> None:
    """Raise what is wrong with a request for its models, before anything of them is loaded."""
    settings = _resolved(item, engine.spec)
    if item.second is not None and second is not None:
        _resolved_second(item.second, settings, second.spec)


def require_room(item: Item, engine: Engine, second: Engine | None) -> None:
    """Raise MemoryLimitError where a model would have no room for its part, before its weights are read."""
    settings = _resolved(item, engine.spec)
    engine.require_room(settings)
    if item.second is not None and second is not None:
        second.require_room(_resolved_second(item.second, settings, second.spec))


def _resolved(item: Item, spec: ModelSpec) -> AnySettings:
    request, source = item.request, item.source
    if isinstance(request, ImageToVideo):
        return resolve_picture(request, spec)
    if isinstance(request, VideoToVideo):
        assert source is not None and source.facts.fps is not None
        return resolve_clip(request, spec, frames=source.facts.frames, size=source.size, fps=source.facts.fps)
    assert request is not None
    return resolve(request, spec)


def _resolved_second(request: VideoToVideo, before: AnySettings, spec: ModelSpec) -> ClipSettings:
    first = before if isinstance(before, Settings) else before.making
    size = first.width, first.height
    return resolve_clip(request, spec, frames=first.frames, size=size, fps=first.fps)


def events(
    item: Item,
    pipeline: Pipeline,
    load_second: Callable[[], Any],
    *,
    keeping_first: bool,
    made: Callable[[Video], None] = lambda _: None,
) -> Iterator[Any]:
    """The steps of a clip, last its video; unless `keeping_first`, the first model goes before the second comes.

    `made` is handed the clip of the first of two stages.
    """
    given = (item.request,) if item.source is None else (item.source.given, item.request)
    first = pipeline.stream(*given)
    if item.second is None:
        return first
    from kinescribe.pipelines.two_stage import freed, refined

    def passed_on() -> Iterator[Any]:
        for event in first:
            if isinstance(event, Video):
                made(event)
                event = replace(event, notes=())  # the report is of the clip that is seen in the end
            yield event

    free = None if keeping_first else lambda: freed(pipeline.components)
    return refined(passed_on(), load_second, item.second, free_first=free)


def picture_note(item: Item, spec: ModelSpec) -> str:
    """What of the picture the model is not shown, in one line; empty if it sees all, or there is no picture."""
    request, source = item.request, item.source
    if not isinstance(request, ImageToVideo) or source is None or spec.picture is None:
        return ""
    making, side = resolve_picture(request, spec).making, spec.picture.crop
    shown = (side, side) if side and not spec.picture.first_frame else (making.width, making.height)
    note = fit_note(source.size, *shown, request.fit)
    return f"{source.facts.name}: {note}" if note else ""


def figures(item: Item, spec: ModelSpec, video: Video) -> dict[str, float]:
    """How a clip made of a picture came out: does it begin with the picture, does anything move."""
    from kinescribe.media.measures import motion, similarity

    request, source = item.request, item.source
    if not isinstance(request, ImageToVideo) or source is None or spec.picture is None:
        return {}
    found = {}
    if spec.picture.first_frame:
        picture = source.content
        if request.fit != "crop":
            picture = fit_frames(picture[None], *video.size, request.fit)[0]
        found["similarity"] = round(similarity(picture, video.frames[0]), 3)
    if len(video.frames) > 1:
        found["motion"] = round(motion(video.frames), 2)
    return found


def hash_before(item: Item, pipeline: Pipeline, load_second: Callable[[], Any]) -> str:
    """The hash that the recipe of a clip from text will have; empty if its model cannot make it."""
    from kinescribe.pipelines.checks import applied_loras, recipe_of

    assert isinstance(item.request, TextToVideo)
    try:
        settings = resolve(item.request, pipeline.spec)
        if item.second is None:
            loras = applied_loras(pipeline.components.adapters)
            return recipe_hash(settings.request(), pipeline.components.model_hash, loras=loras)
        second = load_second()
        before = Recipe.model_validate(recipe_of(pipeline.components, settings.request()))
        request = _resolved_second(item.second, settings, second.spec).request()
        loras = applied_loras(second.components.adapters)
        return recipe_hash(request, second.components.model_hash, before=before, loras=loras)
    except KinescribeError:
        return ""  # reported when its turn comes
