"""A model on disk, described but not yet read: which networks, which files, under which names.

Each layout's module turns a folder into a ``Source``; loading, checking and converting work on that alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kinescribe.catalog import Layout, ModelSpec
from kinescribe.checkpoints.keymap import (
    Aliases,
    Foreign,
    KeyMap,
    KeyReport,
    key_map,
    own_map,
    text_rows,
    unet_rows,
    vae_rows,
)
from kinescribe.checkpoints.read import WeightFile, open_weights
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.text import TextConfig, TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet, UNetConfig
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.models.vocabulary import Vocabulary

PartName = Literal["unet", "vae", "text"]
Config = UNetConfig | VAEConfig | TextConfig

LARGEST_SIZE = 2**20
MOST_LEVELS = 8
# Fields that multiply the number of modules.
_LIMITS = {"blocks_per_level": 16, "layers": 128, "multipliers": 64}

# Tensors of the relatives of the text-to-video UNet, under either layout's names, and whose they are.
_RELATIVES = (
    (r"(lora_(up|down|A|B)|_lora)\b", "a low-rank adapter (InstructVideo or LoRA), not whole weights"),
    (r"adapter\.", "a DreamVideo adapter, not whole weights"),
    (r"^(a|m)sim_embedding\.", "HiGen"),
    (r"^((single_)?sketch|depth|motion|masked|canny)_embedding", "VideoComposer"),
    (r"^pre_image_condition\.", "VideoComposer or TF-T2V"),
    (r"^(image_latents|local_image)_", "I2VGen-XL (image-to-video)"),
    (r"^context_embedding\.", "ModelScope Image-to-Video"),
    (r"^fps_embedding\.", "an image-to-video or fps-conditioned model"),
    (r"^(add|class|label)_embedding\.|^label_emb\.", "an image model"),
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One network of a source. ``files`` is empty where the weights are absent; ``wanted`` names them then."""

    name: PartName
    config: Config
    keymap: KeyMap
    aliases: Aliases
    files: tuple[Path, ...]
    wanted: str

    def open(self) -> tuple[WeightFile, dict[str, str]]:
        """The open files, and for each name of the key map the name in the file.

        Raises:
            WeightsError: no file, a damaged one, or tensors missing, unexpected or of a wrong shape.
        """
        if not self.files:
            raise WeightsError(f"{self.wanted} is missing")
        weights = open_weights(self.files)
        used, _ = self.names(weights)
        report = self.keymap.report({name: weights.shapes[there] for name, there in used.items()})
        if not report.ok:
            raise WeightsError(f"{self.files[0]}: {report}; {self.guess(used, report)}")
        return weights, used

    def names(self, weights: WeightFile) -> tuple[dict[str, str], tuple[str, ...]]:
        """Key-map names to file names, and the file's names that are not needed."""
        try:
            return self.aliases.apply(weights.shapes)
        except KeyError as error:
            raise WeightsError(
                f"{self.files[0]}: {error.args[0]!r} repeats a tensor that it holds under another name"
            ) from error

    def guess(self, names: Iterable[str], report: KeyReport) -> str:
        """What a file with unfitting tensors seems to be, and what to do."""
        family = _relative(list(names), report) if self.name == "unet" else None
        if family is not None:
            return f"this looks like {family}: choose a text-to-video model"
        return "the file belongs to another model or to other sizes: see 'kinescribe models check'"


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """Which tokenizer a model was trained with.

    ``files`` is empty for CLIP's full vocabulary, one BPE file, one ``tokenizer.json``, or ``vocab.json`` and
    ``merges.txt``; ``keep`` are the full ids of a compact vocabulary.
    """

    files: tuple[Path, ...]
    context_length: int
    keep: tuple[int, ...] | None = None

    def load(self) -> Tokenizer:
        """Build the tokenizer; raises ``WeightsError`` for a damaged file."""
        length = self.context_length
        if not self.files:
            return Tokenizer.clip(context_length=length, keep=self.keep)
        if len(self.files) == 2:
            return Tokenizer.from_vocab_merges(*self.files, context_length=length)
        (path,) = self.files
        if path.suffix == ".json":
            return Tokenizer.from_tokenizer_json(path, context_length=length)
        return Tokenizer.from_bpe_file(path, context_length=length)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A whole model on disk."""

    layout: Layout
    path: Path
    unet: Part
    vae: Part
    text: Part
    tokenizer: TokenizerFiles
    schedule: ScheduleConfig
    spec: ModelSpec

    @property
    def parts(self) -> Iterator[Part]:
        """The three networks."""
        return iter((self.unet, self.vae, self.text))

    def completed_from(self, other: "Source") -> "Source":
        """This source with the networks whose files are absent taken from ``other``."""
        taken = {part.name: getattr(other, part.name) for part in self.parts if not part.files}
        tokenizer = other.tokenizer if "text" in taken else self.tokenizer
        return replace(self, tokenizer=tokenizer, **taken)


def _require_sane(config: Config) -> None:
    """Sizes come from files: refuse those that would take for ever to build, or cannot be built."""
    for field in fields(config):
        value = getattr(config, field.name)
        limit = _LIMITS.get(field.name, LARGEST_SIZE)
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > MOST_LEVELS or not numbers:
            raise ValueError(f"{field.name} has {len(numbers)} entries")
        for number in numbers:
            whole = isinstance(number, int) and (isinstance(number, bool) or 1 <= number <= limit)
            real = (
                field.name in ("dropout", "scale") and isinstance(number, int | float) and 0 <= number < 100
            )
            if not (whole or real):
                raise ValueError(f"{field.name}={number!r}")


def _relative(names: list[str], report: KeyReport) -> str | None:
    """The relative of the text-to-video UNet whose tensors these are, if it is a known one."""
    for pattern, family in _RELATIVES:
        if any(re.search(pattern, name) for name in names):
            return family
    stem = next((m for m in report.wrong if m.name in ("input_blocks.0.0.weight", "conv_in.weight")), None)
    if stem is not None and stem.found[:1] == stem.wanted[:1]:
        return f"a model of {stem.found[1]} input channels (VideoLCM, TF-T2V, VideoComposer)"
    return None


class _Blank(TorchFunctionMode):
    """Skip every initialisation: meta tensors have no numbers, and drawing them would load torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_", "zeros_", "ones_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def blank(config: Config) -> nn.Module:
    """The network of a config, its tensors without numbers (on torch's meta device)."""
    with torch.device("meta"), _Blank():
        if isinstance(config, UNetConfig):
            return UNet(config)
        return AutoencoderKL(config) if isinstance(config, VAEConfig) else TextEncoder(config)


def same_vocabulary(one: Vocabulary, other: Vocabulary) -> bool:
    """Two vocabularies that give the same ids; how their marks are spelt does not matter."""
    words = [
        {word: number for word, number in v.entries.items() if number not in (v.start, v.end)}
        for v in (one, other)
    ]
    marks = [(v.start, v.end, v.merges) for v in (one, other)]
    return words[0] == words[1] and marks[0] == marks[1]


def part(
    config: Config, *, layout: Foreign | None, files: tuple[Path, ...], wanted: str, aliases: Aliases
) -> Part:
    """Describe one network; ``layout`` None means our own names. ``ValueError`` for sizes that no model has."""
    _require_sane(config)
    network = blank(config)
    name: PartName
    if isinstance(config, UNetConfig):
        name, rows = "unet", unet_rows(config)
    elif isinstance(config, VAEConfig):
        name, rows = "vae", vae_rows(config)
    else:
        name, rows = "text", text_rows(config)
    keymap = own_map(network) if layout is None else key_map(network, rows, layout)
    return Part(name=name, config=config, keymap=keymap, aliases=aliases, files=files, wanted=wanted)
