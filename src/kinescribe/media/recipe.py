"""The recipe of a clip: everything needed to make its frames again, carried inside the file as JSON."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from kinescribe.errors import OptionError
from kinescribe.media.frames import Frames
from kinescribe.options import ImageToVideo, TextToVideo, VideoToVideo

LARGEST_RECIPE = 1 << 16  # characters of JSON
LONGEST_NAME = 100

Name = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f\x7f]{1,100}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,39}$")]
Count = Annotated[int, Field(ge=1, le=1 << 20)]
Kind = Literal["text-to-video", "image-to-video", "video-to-video"]
AnyRequest = TextToVideo | ImageToVideo | VideoToVideo

REQUESTS: dict[Kind, type[AnyRequest]] = {
    "text-to-video": TextToVideo,
    "image-to-video": ImageToVideo,
    "video-to-video": VideoToVideo,
}
"""The class of a request by the kind of task."""


class SourceInput(BaseModel):
    """The picture or clip that was put in: what it was called, without its folder, and what tells it from others.

    ``sha256`` is that of the decoded RGB frames, 8 bits a colour; ``fps`` is None for a picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    width: Count
    height: Count
    frames: Count
    fps: Annotated[float | None, Field(gt=0)] = None

    @classmethod
    def of(cls, name: str, frames: Frames, fps: float | None = None) -> "SourceInput":
        """What the file ``name`` was decoded to; empty for something that came from memory."""
        count, height, width, _ = frames.shape
        digest = hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()
        return cls(name=_name(name), sha256=digest, width=width, height=height, frames=count, fps=fps)


class AppliedLora(BaseModel):
    """A LoRA that lay on the weights: its file's name without the folder, its SHA-256, and how strong it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scale: float

    @classmethod
    def of(cls, name: str, sha256: str, scale: float) -> "AppliedLora":
        """The same, of any file name."""
        return cls(name=_name(name), sha256=sha256, scale=scale)


class Recipe(BaseModel):
    """A request with every field resolved, and what it was carried out with.

    ``kind`` says which class ``request`` is of. ``source`` is the picture or clip that was put in; ``before`` is the
    recipe of that clip where it passed in memory, so that both can be made again from nothing. ``model`` is a
    name, never a path; ``model_hash`` says which weights that name meant, before ``loras`` were added to them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: Literal["AI-generated"] = "AI-generated"
    kind: Kind = "text-to-video"
    request: AnyRequest
    source: SourceInput | None = None
    before: "Recipe | None" = None
    model: Name
    model_hash: Hash
    loras: Annotated[tuple[AppliedLora, ...], Field(max_length=100)] | None = None
    kinescribe: Version
    torch: Version

    @field_validator("request", mode="before")
    @classmethod
    def _of_its_kind(cls, request: Any, info: Any) -> Any:
        kind = REQUESTS[info.data.get("kind", "text-to-video")]
        if isinstance(request, AnyRequest):
            if not isinstance(request, kind):
                raise ValueError(f"a {type(request).__name__} is no {kind.__name__}")
            return request
        try:
            return kind.model_validate(request)
        except ValidationError as error:
            raise ValueError(first_reason(error)) from None

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values; what does not apply to the model or the task is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def hash(self) -> str:
        """64 hex digits of the request, of what was put in and of the weights; versions do not count."""
        return recipe_hash(
            self.request, self.model_hash, source=self.source, before=self.before, loras=self.loras
        )


def recipe_hash(
    request: AnyRequest,
    model_hash: str,
    *,
    source: SourceInput | None = None,
    before: Recipe | None = None,
    loras: Sequence[AppliedLora] | None = None,
) -> str:
    """What `Recipe.hash` gives for a resolved request, these weights, and what is put in; names do not count."""
    parts: dict[str, object] = {
        "request": request.model_dump(mode="json", exclude_none=True),
        "weights": model_hash,
    }
    if before is not None:  # says more than the frames that came of it
        parts["before"] = before.hash()
    elif source is not None:
        parts["source"] = source.sha256
    if loras:
        parts["loras"] = [(lora.sha256, lora.scale) for lora in loras]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def parse_recipe(text: str) -> dict[str, object]:
    """The recipe in a clip's comment, as `Recipe.as_dict` gives it.

    The text may come from anyone: it is limited to 64 KiB and to the fields and ranges of `Recipe`.
    Raises OptionError naming the first field that breaks a rule.
    """
    if len(text) > LARGEST_RECIPE:
        raise OptionError(f"a recipe of more than {LARGEST_RECIPE} characters is refused: give another clip")
    try:
        return Recipe.model_validate_json(text).as_dict()
    except (ValidationError, RecursionError) as error:
        reason = first_reason(error) if isinstance(error, ValidationError) else "nested too deeply"
        raise OptionError(f"not a recipe of Kinescribe ({reason}): give another clip") from error


def first_reason(error: ValidationError) -> str:
    """`field: what is wrong` of the first problem, on one line and of bounded length."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"][:4])
    said = first["msg"].removeprefix("Value error, ")
    text = f"{where}: {said}" if where else said
    return " ".join(text.split())[:200]


def _name(name: str) -> str:
    """The name as a recipe may hold it."""
    shown = "".join(ch if ch.isprintable() and ch not in "/\\" else "_" for ch in name)
    return shown[:LONGEST_NAME] or "memory"
