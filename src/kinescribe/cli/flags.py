"""The flags of a request, derived from its class: names, types, ranges and help are written only there."""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Optional, TypeVar

from cyclopts import Group, Parameter, Token
from pydantic.fields import FieldInfo

from kinescribe.catalog import Kind
from kinescribe.cli.engine import Engine, second_model
from kinescribe.cli.loras import LoraChoice, parse_lora
from kinescribe.cli.prompts import Judge, judge, policy_from
from kinescribe.cli.report import Saving
from kinescribe.errors import OptionError
from kinescribe.options import Request, VideoToVideo
from kinescribe.perf.budget import parse_memory

Flag = Parameter(negative=(), show_default=False)

Output = Annotated[
    str | None,
    Parameter(
        name=["--output", "-o"],
        help="Where the clip goes: .mp4, .webm, .gif or .webp, or folder/ for PNG frames. An existing file needs "
        "--overwrite. Without -o a free name is taken: clip.mp4, or one after the file that is put in. Several "
        "clips go to NAME-1, NAME-2 ..., or as mp4 into folder/.",
    ),
]
MODEL = Parameter(help="A name from `kinescribe models list`, or the path of a model folder.")
ModelName = Annotated[str, MODEL]
OwnModel = Annotated[str | None, MODEL]
Size = Annotated[str | None, Parameter(help="Width and height at once, such as 256x128.")]
Device = Annotated[str, Parameter(help="auto, cuda, cuda:1, mps or cpu.")]
DType = Annotated[str, Parameter(name="--dtype", help="auto, float16, bfloat16 or float32.")]
MemoryBudget = Annotated[
    str,
    Parameter(
        name="--memory",
        help="auto: what is free decides how the work is divided; roomy: not at all; low: as far as can be; or a size "
        "such as 8GB.",
    ),
]
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
LoraFiles = Annotated[
    tuple[str, ...],
    Parameter(
        name="--lora",
        negative=(),
        show_default=False,
        help="A LoRA to add to the model: a file or folder, and behind a colon how strong, as in "
        "style.safetensors:0.8. Give the flag again for more.",
    ),
]
AllowPartial = Annotated[
    bool, Flag, Parameter(help="Take a LoRA that the model has not all the layers for, as far as it fits.")
]

Refine = Annotated[
    bool,
    Flag,
    Parameter(help="Refine the clip with a second model; each --refine-... flag asks for that too."),
]
RefineModel = Annotated[
    str | None, Parameter(help="The second model; see kinescribe models list for video-to-video.")
]
RefineSize = Annotated[str | None, Parameter(help="Its width and height, such as 1280x720.")]
StrictPrompt = Annotated[
    bool,
    Flag,
    Parameter(
        help="Refuse a prompt that is too long, not in English letters, or of unknown words (exit code 2)."
    ),
]

TOO_LONG_TO_SHOW = 10**9
BEFORE_SECOND = "refine_"
SECOND = Group("Second stage", sort_key=1)

Stages = tuple[dict[str, Any], dict[str, Any]]
Command = TypeVar("Command", bound=Callable[..., Any])


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Making:
    """What every command that makes clips takes beside the request: where, what else, under which rules."""

    output: Output = None
    size: Size = None
    device: Device = "auto"
    dtype: DType = "auto"
    memory: MemoryBudget = "auto"
    sheet: Sheet = False
    overwrite: Overwrite = False
    as_json: AsJson = False
    without_metadata: WithoutMetadata = False
    policy_file: PolicyFile = None
    without_policy: WithoutPolicy = False
    strict_prompt: StrictPrompt = False
    lora: LoraFiles = ()
    allow_partial: AllowPartial = False

    def saving(self) -> Saving:
        """How the clips are saved and reported."""
        return Saving(
            overwrite=self.overwrite,
            metadata=not self.without_metadata,
            sheet=self.sheet,
            as_json=self.as_json,
        )

    def engine(
        self,
        model: str,
        task: Kind,
        model_hash: str | None = None,
        *,
        loras: Sequence[LoraChoice] | None = None,
    ) -> Engine:
        """A model for a task on the device asked for, with `loras`, by default those typed."""
        return Engine(
            model=model,
            task=task,
            model_hash=model_hash,
            device=self.device,
            dtype=self.dtype,
            memory=parse_memory(self.memory),
            loras=tuple(self.loras if loras is None else loras),
            allow_partial=self.allow_partial,
        )

    @property
    def loras(self) -> tuple[LoraChoice, ...]:
        """The LoRAs as typed; they are for the first of two stages."""
        return tuple(parse_lora(text) for text in self.lora)

    def judge(self, *engines: Engine | None) -> Judge:
        """What is asked of a prompt that these models are to read."""
        policy = None if self.without_policy else policy_from(self.policy_file)
        return judge(policy, *engines, strict=self.strict_prompt)


@Parameter(name="*", group=SECOND)
@dataclass(frozen=True, kw_only=True)
class Refining:
    """A second stage after the first: with which model, at which size."""

    refine: Refine = False
    refine_model: RefineModel = None
    refine_size: RefineSize = None

    def engine(self, making: Making, second: dict[str, Any], *, after: Engine) -> Engine | None:
        """The second model; None if no second stage is asked for, by `second` neither, its fields as typed."""
        if not (self.refine or self.refine_model or self.refine_size or second):
            return None
        model = self.refine_model or second_model(after.spec)
        return making.engine(model, "video-to-video", loras=())


USUAL, UNREFINED = Making(), Refining()


def request_flags(
    *kinds: type[Request], leave_out: Collection[str] = (), before: str = "", group: Group | None = None
) -> Callable[[Command], Command]:
    """Give a command that ends in `**fields` one flag for each field of the classes of requests.

    `fields` then holds what the user typed, and nothing else; `before` begins the names of flags and fields.
    """
    derived = {
        name: inspect.Parameter(
            before + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(field, group)
        )
        for kind in kinds
        for name, field in kind.model_fields.items()
        if name not in leave_out
    }

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *derived.values()]
        )
        return command

    return decorate


def second_flags(command: Command) -> Command:
    """Give a command a flag for each field of a second stage that it does not share with the first."""
    shared = ("prompt", "fps", "width", "height", "seed")
    return request_flags(VideoToVideo, leave_out=shared, before=BEFORE_SECOND, group=SECOND)(command)


def two_stages(fields: dict[str, Any], size: str | None, second_size: str | None) -> Stages:
    """What was typed for the first stage and for the second, by the names of their requests' fields."""
    first = {name: value for name, value in fields.items() if not name.startswith(BEFORE_SECOND)}
    second = {
        name.removeprefix(BEFORE_SECOND): value
        for name, value in fields.items()
        if name.startswith(BEFORE_SECOND)
    }
    return with_size(first, size), with_size(second, second_size)


def whole_number(_type: object, tokens: Sequence[Token]) -> int:
    """An integer as typed; the parser alone would round 2.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def _annotation(field: FieldInfo, group: Group | None) -> Any:
    told = Parameter(help=(field.description or "") + _range(field))
    whole = Parameter(converter=whole_number) if field.annotation == int | None else Parameter()
    place = Parameter() if group is None else Parameter(group=group)  # None as a group would hide the flag
    return Annotated[Optional[field.annotation], Flag, told, whole, place]  # noqa: UP045 - a value, no type


def _range(field: FieldInfo) -> str:
    limits = {
        name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le") if hasattr(m, name)
    }
    if limits.get("le", TOO_LONG_TO_SHOW) >= TOO_LONG_TO_SHOW:
        return ""
    low = f"above {limits['gt']}" if "gt" in limits else f"{limits.get('ge')}"
    return f" [{low} to {limits['le']}]"


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
