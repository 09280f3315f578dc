"""What a user is told before the work or after it, and the recipe that goes with the clip."""

import torch
from pydantic import ValidationError

import kinescribe
from kinescribe.catalog import ModelSpec
from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.media.recipe import REQUESTS, AnyRequest, AppliedLora, Recipe, SourceInput
from kinescribe.media.video import Video
from kinescribe.models.adapters import Adapters
from kinescribe.pipelines.settings import Settings, own_strength
from kinescribe.pipelines.stages import say

TASKS = {
    "text-to-video": "makes clips from text",
    "image-to-video": "makes clips from a picture",
    "video-to-video": "makes clips anew from clips",
}
"""What a model of each kind does, for sentences."""


def require_kind(spec: ModelSpec, task: str) -> None:
    """Raise ``OptionError`` for a model that cannot be used for ``task``, saying what it is."""
    if spec.kind == task or (task == "video-to-video" and spec.kind == "text-to-video"):
        return
    raise OptionError(
        f"{spec.name} {TASKS[spec.kind]} ({spec.kind}), and {task} was asked: "
        "choose a model of that kind (kinescribe models list)"
    )


def refuse_options_beside(options: dict[str, object]) -> None:
    """Raise ``OptionError`` for options beside a whole request."""
    if options:
        raise OptionError(f"{next(iter(options))} beside a whole request: put it into the request")


def say_if_unguided(job: Settings, spec: ModelSpec, *, asked_negative: bool) -> None:
    """Guidance that is off, and what is lost by it."""
    if job.guidance <= 1 and (asked_negative or spec.defaults.guidance > 1):
        lost = ": the negative prompt has no effect" if asked_negative else ""
        say(f"guidance={job.guidance:g} turns guidance off{lost}; above 1 the prompt counts for more")


def say_if_strong(strength: float, spec: ModelSpec) -> None:
    """Warn of noise levels that a model has not learned, where it has learned but the lowest."""
    learned = own_strength(spec)
    if spec.refinement is not None and spec.refinement.consistent_start and strength > learned:
        say(
            f"{spec.name} has learned to refine at a strength of up to {learned:g}: at {strength:g} it leaves noise. "
            "To tell a clip in other words use a text-to-video model, such as papercut"
        )


def say_if_long(frames: int, spec: ModelSpec) -> None:
    """A pass of more frames than a model was trained on."""
    if frames > spec.trained_frames:
        say(
            f"{frames} frames in one pass: {spec.name} was trained on "
            f"{spec.trained_frames}, longer clips lose shape"
        )


def recipe_before(clip: Video) -> Recipe | None:
    """The recipe of a clip that was made here; None for one read from a file, whose frames are not quite those."""
    if clip.name or not clip.recipe:
        return None
    try:
        return Recipe.model_validate(clip.recipe)
    except ValidationError:
        return None


def applied_loras(adapters: Adapters) -> tuple[AppliedLora, ...] | None:
    """The LoRAs that change the weights as they are; None without any, a scale of 0 being none."""
    loaded = [(adapter, scale) for adapter, scale in adapters.loaded if scale]
    return tuple(AppliedLora.of(a.file, a.sha256, scale) for a, scale in loaded) or None


def recipe_of(
    components: Components,
    request: AnyRequest,
    *,
    source: SourceInput | None = None,
    before: Recipe | None = None,
) -> dict[str, object]:
    """The recipe of a clip that ``components`` made of a resolved request."""
    kind = next(kind for kind, request_class in REQUESTS.items() if isinstance(request, request_class))
    return Recipe(
        kind=kind,
        request=request,
        source=source,
        before=before,
        model=components.spec.name,
        model_hash=components.model_hash,
        loras=applied_loras(components.adapters),
        kinescribe=kinescribe.__version__,
        torch=str(torch.__version__),
    ).as_dict()
