"""Training configuration: frozen dataclasses filled from a TOML file and `a.b=3` settings on top.

Every key is known and every value has the declared type, or a `DataError` names the key. The sizes of the models
are the models' own config classes, so a recipe and a saved model speak the same words.
"""

import dataclasses
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import DataError
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig

T = TypeVar("T")
Weighting = Literal["uniform", "min_snr", "clean"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long a run lasts, what it writes and when, and on what it computes.

    `steps` and `minutes` are limits and the nearer one ends the run; the learning rate decays to that end. A run with
    `steps` alone is reproducible bit for bit on one machine; with `minutes` it always ends in time.
    A milestone is a checkpoint, a validation, a sample sheet, a loss curve and the exported EMA weights.
    """

    folder: str
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    log_steps: int = 20
    milestone_steps: int | None = None
    milestone_minutes: float | None = None
    first_milestone: bool = True
    keep_checkpoints: int = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise DataError("run.steps and run.minutes are both unset: set one, e.g. --set run.steps=1000")
        for name in ("steps", "minutes", "log_steps", "milestone_steps", "milestone_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DataError(f"run.{name}={value} must be positive")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay, gradient clipping and the moving average of the weights."""

    learning_rate: float
    warmup_steps: int
    final_share: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise DataError(f"optimizer.ema_decay={self.ema_decay} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The rolling cache of rendered data on each device: `slots` chunks of `chunk` items, one renewed now and then."""

    chunk: int
    slots: int
    first_slots: int
    renew_steps: int
    size: int = 128
    frames: int = 16
    workers: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.first_slots <= self.slots:
            raise DataError(f"cache.first_slots={self.first_slots} must lie in 1..slots={self.slots}")


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Weights of the autoencoder's loss terms, beside an L1 of weight one."""

    edge: float = 1.0
    coarse: float = 0.5
    square: float = 1.0
    divergence: float = 3e-4


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """The autoencoder stage: stills of the world, compressed and rebuilt.

    `init_from` is a folder with an autoencoder, alone or in a whole model, to start from. With `frozen_encoder` only
    the way from latents to pixels is trained, from mean latents: latents and their scale stay what they were, so that
    a diffusion model trained on them works with the new decoder.
    """

    stage: Literal["vae"]
    run: RunConfig
    optimizer: OptimizerConfig
    cache: CacheConfig
    vae: VAEConfig
    batch: int
    loss: VAELossConfig = VAELossConfig()
    init_from: str | None = None
    frozen_encoder: bool = False

    def __post_init__(self) -> None:
        if self.frozen_encoder and self.init_from is None:
            raise DataError(
                "frozen_encoder=true needs a trained encoder: set init_from to a folder that holds one"
            )


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Which noise levels are trained on, and how they are weighted.

    Uniform times u become `shift * u / (1 + (shift - 1) * u)`: a shift above one spends more samples at high
    noise, where the subject and its motion are decided. For `weighting` see `losses.clip_weights`.
    The squared error of latent cells that a subject covers counts `foreground` times that of the rest; 1 is off.
    """

    shift: float = 1.0
    weighting: Weighting = "uniform"
    foreground: float = 1.0

    def __post_init__(self) -> None:
        if self.foreground < 1:
            raise DataError(f"noise.foreground={self.foreground} must be at least 1, which is off")


@dataclass(frozen=True, kw_only=True)
class DenoisingTraining:
    """What the stages that teach a UNet to denoise cached latents have in common; none of them is this alone.

    `image_share` of the steps train on single frames, `image_batch` of them. `init_from` is a native folder with
    weights to start from (optimizer state begins afresh).
    """

    run: RunConfig
    optimizer: OptimizerConfig
    cache: CacheConfig
    unet: UNetConfig
    schedule: ScheduleConfig
    batch: int
    captions: int = 4
    image_share: float = 0.125
    image_batch: int = 1024
    condition_dropout: float = 0.1
    validation_clips: int = 256
    sheet_steps: int = 16
    sheet_guidance: float = 3.0
    noise: NoiseConfig = NoiseConfig()
    init_from: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.image_share < 1:
            raise DataError(f"image_share={self.image_share} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class DiffusionTraining(DenoisingTraining):
    """The diffusion stage: text tower and UNet together, on cached latents of a frozen autoencoder.

    `text.vocabulary` = 0 stands for the size of the world's own vocabulary. `vae_from` is a folder that gives the
    frozen autoencoder.
    """

    stage: Literal["diffusion"]
    text: TextConfig
    vae_from: str
    sheet_prompts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnimateTraining(DenoisingTraining):
    """The animating stage: UNet, conditions and image tower together, for clips that begin with a given still.

    `model_from` is a native folder that gives autoencoder and text tower, both frozen. `late_share` of the clips
    begin at a later moment of their motion, so that a still may show any, and `slow_share` show half of it in as
    many frames, which the model is told by twice the frame rate.
    """

    stage: Literal["animate"]
    conditions: ImageConditionsConfig
    vision: VisionConfig
    model_from: str
    image_share: float = 0.0
    late_share: float = 0.5
    slow_share: float = 0.25

    def __post_init__(self) -> None:
        if self.image_share != 0:
            raise DataError(f"image_share={self.image_share}: a still is told whole by its picture; set 0")
        if self.vision.size != self.cache.size:
            raise DataError(f"vision.size={self.vision.size} must be cache.size={self.cache.size}")
        channels = self.conditions.local_channels + self.unet.out_channels
        if self.unet.in_channels != channels:
            raise DataError(
                f"unet.in_channels={self.unet.in_channels} must be {channels}: latents and picture"
            )
        for name in ("late_share", "slow_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}={getattr(self, name)} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class RefineTraining(DenoisingTraining):
    """The refining stage: a UNet that leads the latents of an enlarged clip to those of one drawn larger.

    `model_from` is a native folder that gives the frozen text tower, and the autoencoder that wears `worn_share` of
    the small clips as it wears generated ones. `vae_from` gives the frozen autoencoder of the larger size.
    `strength` is the share of noise levels trained on, the cleanest ones, and where refinement starts.
    """

    stage: Literal["refine"]
    model_from: str
    vae_from: str
    strength: float
    worn_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.strength <= 1:
            raise DataError(f"strength={self.strength} must lie in (0, 1]")
        if not 0 <= self.worn_share <= 1:
            raise DataError(f"worn_share={self.worn_share} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class DistillTraining:
    """The distilling stage: a UNet that takes `steps` steps without guidance where its teacher takes more, with it.

    `teacher` is the folder of a text-to-video model; all but its UNet stays. `shift` moves the times of both towards
    noise. `between_share` of the samples begin at a time of the teacher's that the student does not visit. Words are
    the world's captions or lines of the file `prompts_from`; `condition_dropout` of them are left out. `init_from` is
    a native folder of the same sizes to start from.
    """

    stage: Literal["distill"]
    run: RunConfig
    optimizer: OptimizerConfig
    cache: CacheConfig
    teacher: str
    batch: int
    steps: int
    teacher_steps: int
    guidance: float
    shift: float = 1.0
    between_share: float = 0.0
    condition_dropout: float = 0.0
    validation_clips: int = 64
    sheet_prompts: tuple[str, ...] = ()
    prompts_from: str | None = None
    init_from: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.steps < self.teacher_steps or self.teacher_steps % self.steps:
            raise DataError(f"teacher_steps={self.teacher_steps} must be 2, 3, ... times steps={self.steps}")
        shares = (("between_share", 0, 1), ("condition_dropout", 0, 1))
        for name, least, most in (("shift", 1, 10), ("validation_clips", 1, float("inf")), *shares):
            if not least <= getattr(self, name) <= most:
                raise DataError(f"{name}={getattr(self, name)} must lie in [{least}, {most}]")


Training = VAETraining | DiffusionTraining | AnimateTraining | RefineTraining | DistillTraining
_STAGES: dict[str, type[Training]] = {
    "vae": VAETraining,
    "diffusion": DiffusionTraining,
    "animate": AnimateTraining,
    "refine": RefineTraining,
    "distill": DistillTraining,
}


def load_config(path: Path, settings: Sequence[str] = ()) -> Training:
    """The training configuration in a TOML file, changed by settings such as `run.steps=20`.

    Raises `DataError` for a missing or broken file, an unknown or missing key, and a value of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give the path of a recipe") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is no valid TOML: {error}") from error
    for setting in settings:
        _apply(table, setting)
    stage = table.get("stage")
    if stage not in _STAGES:
        raise DataError(f"stage={stage!r} is unknown: use one of {', '.join(_STAGES)}")
    return build(_STAGES[stage], table)


def build(cls: type[T], table: Mapping[str, object], path: str = "") -> T:
    """A dataclass filled from a plain table, strictly: names and types must fit, recursively."""
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise DataError(f"unknown key {path}{key}: known here are {', '.join(fields)}")
    missing = [name for name, field in fields.items() if name not in table and _required(field)]
    if missing:
        raise DataError(
            f"missing key {path}{missing[0]}: add it to the recipe or pass --set {path}{missing[0]}=..."
        )
    return cls(**{key: _convert(value, hints[key], path + key) for key, value in table.items()})


def as_table(config: object) -> dict[str, Any]:
    """A config as plain nested dictionaries, ready for JSON."""
    return dataclasses.asdict(config)  # type: ignore[call-overload]


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(value: object, kind: Any, path: str) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise _wrong(path, "a table", value)
        return build(kind, value, path + ".")
    if origin is Literal:
        if value not in arguments:
            raise _wrong(path, "one of " + ", ".join(map(repr, arguments)), value)
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, path)
    if origin is tuple:
        return _convert_tuple(value, arguments, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise _wrong(path, getattr(kind, "__name__", str(kind)), value)
    return value


def _convert_union(value: object, kinds: tuple[Any, ...], path: str) -> object:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds[:-1]:
        try:
            return _convert(value, kind, path)
        except DataError:
            continue
    return _convert(value, kinds[-1], path)


def _convert_tuple(value: object, kinds: tuple[Any, ...], path: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(path, "a list", value)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(path, f"a list of {len(kinds)}", value)
    return tuple(
        _convert(item, kind, f"{path}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _wrong(path: str, wanted: str, value: object) -> DataError:
    return DataError(f"{path} must be {wanted}, not {value!r}")


def _apply(table: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise DataError(f"--set {setting}: write it as name=value, e.g. run.steps=1000")
    *parents, last = name.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise DataError(f"--set {setting}: {parent} is a value, not a table")
    table[last] = _parse(text.strip())


def _parse(text: str) -> object:
    """A TOML value; `none` unsets an optional key; anything else is a string, so quotes are not needed."""
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
