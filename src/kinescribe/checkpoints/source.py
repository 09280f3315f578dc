"""A model on disk, described but not yet read: which networks, which files, under which names.

Each layout's module turns a folder into a ``Source``; loading, checking and converting work on that alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kinescribe.catalog import Layout, ModelSpec
from kinescribe.checkpoints.families import Family, looks_like
from kinescribe.checkpoints.image_rows import image_condition_rows, vision_rows
from kinescribe.checkpoints.keymap import (
    Aliases,
    Foreign,
    KeyMap,
    KeyReport,
    Row,
    key_map,
    own_map,
    text_rows,
    unet_rows,
    vae_rows,
)
from kinescribe.checkpoints.read import WeightFile, open_weights
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.conditions import SkipFilter
from kinescribe.models.image_conditions import ImageConditions, ImageConditionsConfig
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.models.vision import VisionConfig, VisionEncoder
from kinescribe.models.vocabulary import Vocabulary, read_bpe_file, read_tokenizer_json, read_vocab_merges

PartName = Literal["unet", "vae", "text", "conditions", "vision"]
Config = UNetConfig | VAEConfig | TextConfig | ImageConditionsConfig | VisionConfig

LARGEST_SIZE = 2**20
MOST_LEVELS = 8
# Fields that multiply the number of modules, or have no use above.
_LIMITS = {"blocks_per_level": 16, "layers": 128, "multipliers": 64, "row_padding": 2, "local_additions": 2}
_MAY_BE_ZERO = ("local_channels", "local_additions")


@dataclass(frozen=True)
class _Kind:
    """What a config is the config of."""

    name: PartName
    network: Callable[[Any], nn.Module]
    rows: Callable[[Any], Iterator[Row]]


_KINDS: dict[type[Any], _Kind] = {
    UNetConfig: _Kind("unet", UNet, unet_rows),
    VAEConfig: _Kind("vae", AutoencoderKL, vae_rows),
    TextConfig: _Kind("text", TextEncoder, text_rows),
    ImageConditionsConfig: _Kind("conditions", ImageConditions, image_condition_rows),
    VisionConfig: _Kind("vision", VisionEncoder, vision_rows),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One network of a source. ``files`` is empty where the weights are absent; ``wanted`` names them then.

    Two parts may lie in the same files: what the aliases of one ignore, those of the other account for.
    ``family`` says whose UNet or conditions these are.
    """

    name: PartName
    config: Config
    keymap: KeyMap
    aliases: Aliases
    files: tuple[Path, ...]
    wanted: str
    family: Family | None = None

    def open(self) -> tuple[WeightFile, dict[str, str]]:
        """The open files, and for each name of the key map the name in the file.

        Raises:
            WeightsError: no file, a damaged one, or tensors missing, unexpected or of a wrong shape.
        """
        if not self.files:
            raise WeightsError(f"{self.wanted} is missing")
        weights = open_weights(self.files)
        return weights, self.matched(weights)

    def matched(self, weights: WeightFile) -> dict[str, str]:
        """For each name of the key map the name in the open files; raises ``WeightsError`` as ``open`` does."""
        used, _ = self.names(weights)
        report = self.keymap.report({name: weights.shapes[there] for name, there in used.items()})
        if not report.ok:
            raise WeightsError(f"{self.files[0]}: {report}; {self.guess(weights.shapes, report)}")
        return used

    def names(self, weights: WeightFile) -> tuple[dict[str, str], tuple[str, ...]]:
        """Key-map names to file names, and the file's names that are not needed."""
        try:
            return self.aliases.apply(weights.shapes)
        except KeyError as error:
            raise WeightsError(
                f"{self.files[0]}: {error.args[0]!r} repeats a tensor that it holds under another name"
            ) from error

    def guess(self, names: Iterable[str], report: KeyReport) -> str:
        """What a file of these names, whose tensors do not fit, seems to be, and what to do."""
        plain = [re.sub(r"^module\.", "", name) for name in names]
        family = looks_like(plain, self.family) if self.family is not None else None
        return (
            family
            or _wide(report)
            or ("the file belongs to another model or to other sizes: see 'kinescribe models check'")
        )


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """Which tokenizer a model was trained with.

    ``files`` is empty for CLIP's full vocabulary, one BPE file, one ``tokenizer.json``, or ``vocab.json`` and
    ``merges.txt``; ``keep`` are the full ids of a compact vocabulary. ``padded_with_end`` says that rows are
    filled with the mark that ends a text, not with id 0.
    """

    files: tuple[Path, ...]
    context_length: int
    keep: tuple[int, ...] | None = None
    padded_with_end: bool = False

    def load(self) -> Tokenizer:
        """Build the tokenizer; raises ``WeightsError`` for a damaged file."""
        return Tokenizer(
            self._vocabulary(),
            context_length=self.context_length,
            padded_with_end=self.padded_with_end,
            keep=self.keep,
        )

    def _vocabulary(self) -> Vocabulary:
        if not self.files:
            return Tokenizer.clip().full
        if len(self.files) == 2:
            return read_vocab_merges(*self.files)
        (path,) = self.files
        return read_tokenizer_json(path) if path.suffix == ".json" else read_bpe_file(path)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A whole model on disk; parts that the model does not have are None.

    ``lora`` is a file of the model's own, of changes that belong to its weights.
    """

    layout: Layout
    path: Path
    unet: Part
    vae: Part
    text: Part | None
    tokenizer: TokenizerFiles | None
    schedule: ScheduleConfig
    spec: ModelSpec
    conditions: Part | None = None
    vision: Part | None = None
    lora: Path | None = None

    @property
    def parts(self) -> Iterator[Part]:
        """The networks that the model has."""
        every = (self.unet, self.vae, self.text, self.conditions, self.vision)
        return (part for part in every if part is not None)

    def completed_from(self, other: "Source") -> "Source":
        """This source with the networks whose files are absent taken from ``other``, as far as it has them."""
        absent = [part.name for part in self.parts if not part.files]
        taken = {name: getattr(other, name) for name in absent if getattr(other, name) is not None}
        tokenizer = other.tokenizer if "text" in taken else self.tokenizer
        return replace(self, tokenizer=tokenizer, **taken)


def shared_files(parts: Iterable[Part]) -> dict[tuple[Path, ...], list[Part]]:
    """Parts by the files that they lie in; those without files are left out."""
    groups: dict[tuple[Path, ...], list[Part]] = {}
    for part in parts:
        if part.files:
            groups.setdefault(part.files, []).append(part)
    return groups


def stand_in(absent: Iterable[Part]) -> str:
    """The model whose folders give parts that lack their files: any of its family does, as all share them."""
    return "i2vgen-xl" if any(part.name == "vision" for part in absent) else "modelscope-1.7b"


def unneeded(parts: Iterable[Part], weights: WeightFile) -> list[str]:
    """The names in open files that none of the parts in them needs."""
    ignored = [part.names(weights)[1] for part in parts]
    return [name for name in ignored[0] if all(name in others for others in map(set, ignored[1:]))]


def _require_sane(config: Config) -> None:
    """Sizes come from files: refuse those that would take for ever to build, or cannot be built."""
    for field in fields(config):
        value = getattr(config, field.name)
        limit = _LIMITS.get(field.name, LARGEST_SIZE)
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > MOST_LEVELS or not numbers:
            raise ValueError(f"{field.name} has {len(numbers)} entries")
        for number in numbers:
            least = 0 if field.name in _MAY_BE_ZERO else 1
            whole = isinstance(number, int) and (isinstance(number, bool) or least <= number <= limit)
            real = (
                field.name in ("dropout", "scale") and isinstance(number, int | float) and 0 <= number < 100
            )
            if not (whole or real):
                raise ValueError(f"{field.name}={number!r}")


def _wide(report: KeyReport) -> str | None:
    """What a UNet is whose first convolution alone takes more channels than ours."""
    stem = next((m for m in report.wrong if m.name in ("input_blocks.0.0.weight", "conv_in.weight")), None)
    if stem is None or stem.found[:1] != stem.wanted[:1]:
        return None
    return (
        f"this looks like a model of {stem.found[1]} input channels (VideoLCM, TF-T2V, VideoComposer): choose a "
        "model of kinescribe models list"
    )


class _Blank(TorchFunctionMode):
    """Skip every initialisation: meta tensors have no numbers, and drawing them would load torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_", "zeros_", "ones_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def blank(config: Config, skip_filter: SkipFilter | None = None) -> nn.Module:
    """The network of a config, its tensors without numbers (on torch's meta device)."""
    with torch.device("meta"), _Blank():
        if isinstance(config, UNetConfig):
            return UNet(config, skip_filter)
        return _KINDS[type(config)].network(config)


def same_vocabulary(one: Vocabulary, other: Vocabulary) -> bool:
    """Two vocabularies that give the same ids; how their marks are spelt does not matter."""
    words = [
        {word: number for word, number in v.entries.items() if number not in (v.start, v.end)}
        for v in (one, other)
    ]
    marks = [(v.start, v.end, v.merges) for v in (one, other)]
    return words[0] == words[1] and marks[0] == marks[1]


def part(
    config: Config,
    *,
    layout: Foreign | None,
    files: tuple[Path, ...],
    wanted: str,
    aliases: Aliases,
    family: Family | None = None,
) -> Part:
    """Describe one network; ``layout`` None means our own names. ``ValueError`` for sizes that no model has."""
    _require_sane(config)
    return Part(
        name=_KINDS[type(config)].name,
        config=config,
        keymap=_keymap(config, layout),
        aliases=aliases,
        files=files,
        wanted=wanted,
        family=family,
    )


@lru_cache(maxsize=32)
def seen(config: Config) -> nn.Module:
    """The :func:`blank` network of a config, to look at alone: it takes a fifth of a second and is asked for often."""
    return blank(config)


@lru_cache(maxsize=32)
def _keymap(config: Config, layout: Foreign | None) -> KeyMap:
    network = seen(config)
    return own_map(network) if layout is None else key_map(network, _KINDS[type(config)].rows(config), layout)
