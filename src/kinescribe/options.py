"""What a user may ask for: one frozen class per task, from which every door derives its flags and checks.

A field left unset (``None``) means "what this model was made for". Nothing here imports torch.
"""

import math
import unicodedata
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kinescribe.errors import OptionError

SamplerName = Literal["ddim", "dpmpp_2m", "dpmpp_2m_sde", "heun", "euler", "euler_a", "unipc", "lcm"]
SpacingName = Literal["leading", "trailing", "linspace", "karras", "modelscope_strict"]
Preset = Literal["exact", "reuse", "fast8", "reuse+fast8"]
FrameCount = Annotated[int | None, Field(ge=1, le=1024, description="Number of frames.")]
FitHow = Annotated[
    Literal["crop", "pad", "stretch"],
    Field(description="Another shape than the clip's: crop the middle, pad with black, or stretch."),
]
SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
MAX_PROMPT_CHARACTERS = 10_000
MAX_SEED = 2**63 - 1
LARGEST_SIDE = 4096

R = TypeVar("R", bound="Request")


class Request(BaseModel):
    """What every task is asked.

    Sizes are pixels, ``fps`` frames a second; ``guidance`` up to 1 turns the second, unconditional pass off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Annotated[str, Field(description="What the clip shows, in English.")] = ""
    negative_prompt: Annotated[str | None, Field(description="What the clip should not show.")] = None
    width: Annotated[
        int | None, Field(ge=8, le=LARGEST_SIDE, description="Width in pixels, a multiple of 8.")
    ] = None
    height: Annotated[
        int | None, Field(ge=8, le=LARGEST_SIDE, description="Height in pixels, a multiple of 8.")
    ] = None
    fps: Annotated[float | None, Field(gt=0, le=1000, description="Frames a second of the file.")] = None
    steps: Annotated[int | None, Field(ge=1, le=1000, description="Denoising steps.")] = None
    guidance: Annotated[
        float | None, Field(ge=0, le=100, description="Classifier-free guidance; up to 1 means off.")
    ] = None
    guidance_rescale: Annotated[
        float | None, Field(ge=0, le=1, description="Pull contrast of guided steps back (0 to 1).")
    ] = None
    eta: Annotated[
        float | None, Field(ge=0, le=1, description="Fresh noise of DDIM (0 none, 1 ancestral).")
    ] = None
    sampler: Annotated[SamplerName | None, Field(description="Solver of the denoising equation.")] = None
    spacing: Annotated[SpacingName | None, Field(description="Placing of the steps in time.")] = None
    preset: Annotated[
        Preset | None, Field(description="Compute less or less exactly: a slightly different clip.")
    ] = None
    seed: Annotated[
        int | None, Field(ge=0, le=MAX_SEED, description="Seed of all noise; drawn and printed if unset.")
    ] = None

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _is_text(cls, text: str | None) -> str | None:
        return text if text is None else clean_prompt(text)

    @field_validator("width", "height")
    @classmethod
    def _on_grid(cls, side: int | None) -> int | None:
        if side is not None and side % 8:
            below, above = side // 8 * 8, side // 8 * 8 + 8
            raise ValueError(f"must be a multiple of 8: use {below} or {above}")
        return side


class TextToVideo(Request):
    """A request for a clip from text."""

    frames: FrameCount = None
    unconditional: Annotated[bool, Field(description="Allow an empty prompt.")] = False

    def model_post_init(self, _context: Any) -> None:
        """An empty prompt is a slip unless it is meant."""
        if not self.prompt.strip() and not self.unconditional:
            raise OptionError(
                "the prompt is empty: say what the clip shows, or set unconditional (--unconditional)"
            )


class ImageToVideo(Request):
    """A request for a clip from a picture, which is handed over beside it. Some models read no prompt."""

    frames: FrameCount = None
    condition_fps: Annotated[
        int | None, Field(ge=1, le=240, description="Frame rate that the model is told; lower moves more.")
    ] = None
    fit: FitHow = "crop"


class VideoToVideo(Request):
    """A request to make a clip anew, which is handed over beside it: all of its frames, in overlapping windows.

    ``fps`` unset keeps the clip's own.
    """

    strength: Annotated[
        float | None, Field(gt=0, le=1, description="How much is made anew: 1 keeps little of the clip.")
    ] = None
    fit: FitHow = "crop"
    window: Annotated[int | None, Field(ge=1, le=1024, description="Frames in one pass of the model.")] = None
    overlap: Annotated[
        int | None, Field(ge=0, le=512, description="Frames that two neighbouring windows share.")
    ] = None

    def model_post_init(self, _context: Any) -> None:
        """A frame lies in two windows at most."""
        if self.window is not None and self.overlap is not None:
            require_overlap(self.window, self.overlap)


def require_overlap(window: int, overlap: int) -> None:
    """Raise ``OptionError`` for an overlap of more than half a window."""
    if overlap > window // 2:
        raise OptionError(
            f"overlap={overlap}: a window of {window} frames shares at most {window // 2}: "
            f"use overlap {window // 2} or less, or a longer window"
        )


def clean_prompt(text: str) -> str:
    """The prompt in normal form C; ``ValueError`` for what no file, terminal or tokenizer can carry."""
    if "\0" in text:
        raise ValueError("holds a NUL character: remove it")
    if any(0xD800 <= ord(ch) <= 0xDFFF for ch in text):
        raise ValueError("holds half of a surrogate pair, which is no text: remove it")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"has {len(text)} characters: use at most {MAX_PROMPT_CHARACTERS}")
    return unicodedata.normalize("NFC", text)


def text_to_video(**fields: Any) -> TextToVideo:
    """Build a request; every complaint becomes one ``OptionError`` line, wrong types of prompt a ``TypeError``."""
    return _built(TextToVideo, {"prompt": None, **fields})


def image_to_video(**fields: Any) -> ImageToVideo:
    """Build a request, with the complaints of :func:`text_to_video`; a prompt may be left out."""
    return _built(ImageToVideo, fields)


def video_to_video(**fields: Any) -> VideoToVideo:
    """Build a request, with the complaints of :func:`text_to_video`; a prompt may be left out."""
    return _built(VideoToVideo, fields)


def _built(kind: type[R], fields: dict[str, Any]) -> R:
    prompt = fields.get("prompt", "")
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be text, not {type(prompt).__name__}")
    known = kind.model_fields
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise OptionError(f"unknown option {unknown[0]!r}: known are {', '.join(known)}")
    try:
        return kind(**{name: _number(value) for name, value in fields.items()})
    except ValidationError as error:
        raise OptionError(_one_line(error)) from None


def _number(value: Any) -> Any:
    """NumPy and similar scalars as plain Python numbers, so that strict checks judge the value."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return said  # about the request as a whole, and a sentence already
    name = str(first["loc"][0])
    value = first.get("input")
    shown = "" if name in ("prompt", "negative_prompt") else f"={_shorten(value)}"
    return f"{name}{shown}: {said[0].lower()}{said[1:]}"


def _shorten(value: Any) -> str:
    text = "NaN" if isinstance(value, float) and math.isnan(value) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
