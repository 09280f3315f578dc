"""The flags of a request, derived from `TextToVideo`: names, types, ranges and help are written only there."""

import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Optional, TypeVar

from cyclopts import Parameter, Token
from pydantic.fields import FieldInfo

from kinescribe.errors import OptionError, PromptWarning
from kinescribe.options import TextToVideo

Flag = Parameter(negative=(), show_default=False)

Output = Annotated[
    str | None,
    Parameter(
        name=["--output", "-o"],
        help="Where the clip goes: .mp4, .webm, .gif or .webp, or folder/ for PNG frames. An existing file needs "
        "--overwrite. Without -o: clip.mp4, or the next free of clip-1.mp4, clip-2.mp4 ... Several clips go to "
        "NAME-1, NAME-2 ..., or as mp4 into folder/.",
    ),
]
ModelName = Annotated[
    str, Parameter(help="A name from `kinescribe models list`, or the path of a model folder.")
]
Size = Annotated[str | None, Parameter(help="Width and height at once, such as 256x128.")]
Device = Annotated[str, Parameter(help="auto, cuda, cuda:1, mps or cpu.")]
DType = Annotated[str, Parameter(name="--dtype", help="auto, float16, bfloat16 or float32.")]
Sheet = Annotated[bool, Flag, Parameter(help="Also write a contact sheet, clip.png.")]
Overwrite = Annotated[bool, Flag, Parameter(help="Replace existing files.")]
AsJson = Annotated[bool, Flag, Parameter(name="--json", help="Print JSON, one value on a line.")]
WithoutMetadata = Annotated[
    bool,
    Flag,
    Parameter(name="--no-metadata", help="Leave the recipe (prompt, seed, settings) out of the file."),
]
PolicyFile = Annotated[
    str | None, Parameter(name="--policy", help="A file of refused words instead of the shipped list.")
]
WithoutPolicy = Annotated[
    bool, Flag, Parameter(name="--no-policy", help="Check no prompt against a list of refused words.")
]

StrictPrompt = Annotated[
    bool,
    Flag,
    Parameter(
        help="Refuse a prompt that is too long, not in English letters, or of unknown words (exit code 2)."
    ),
]

TOO_LONG_TO_SHOW = 10**9

Command = TypeVar("Command", bound=Callable[..., Any])


def request_flags(*, leave_out: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command that ends in `**fields` one flag for each field of `TextToVideo`.

    `fields` then holds what the user typed, and nothing else.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        derived = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(field)
            )
            for name, field in TextToVideo.model_fields.items()
            if name not in leave_out
        ]
        command.__signature__ = signature.replace(parameters=[*own, *derived])  # type: ignore[attr-defined]
        return command

    return decorate


def whole_number(_type: object, tokens: Sequence[Token]) -> int:
    """An integer as typed; the parser alone would round 2.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def _annotation(field: FieldInfo) -> Any:
    help_text = (field.description or "") + _range(field)
    whole = Parameter(converter=whole_number) if field.annotation == int | None else Parameter()
    return Annotated[Optional[field.annotation], Flag, Parameter(help=help_text), whole]  # noqa: UP045 - a value, no type


def _range(field: FieldInfo) -> str:
    limits = {
        name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le") if hasattr(m, name)
    }
    if limits.get("le", TOO_LONG_TO_SHOW) >= TOO_LONG_TO_SHOW:
        return ""
    low = f"above {limits['gt']}" if "gt" in limits else f"{limits.get('ge')}"
    return f" [{low} to {limits['le']}]"


def refuse_doubtful_prompts() -> None:
    """Make each warning about a prompt an error, until the command ends."""
    warnings.simplefilter("error", PromptWarning)


def parse_size(text: str) -> tuple[int, int]:
    """`256x128` as (256, 128); OptionError for anything else."""
    width, cross, height = text.lower().replace("\u00d7", "x").partition("x")
    if not (cross and width.strip().isdecimal() and height.strip().isdecimal()):
        raise OptionError(f"--size {text!r}: write it as WIDTHxHEIGHT, such as 256x128")
    return int(width), int(height)


def with_size(fields: dict[str, Any], size: str | None) -> dict[str, Any]:
    """`fields`, less those nobody typed, with width and height from `--size`; both ways at once are an OptionError."""
    typed = {name: value for name, value in fields.items() if value is not None and value is not False}
    if size is None:
        return typed
    if typed.keys() & {"width", "height"}:
        raise OptionError("--size beside --width or --height: use one of the two ways")
    width, height = parse_size(size)
    return {**typed, "width": width, "height": height}
