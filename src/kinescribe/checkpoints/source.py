"""A model on disk, described but not yet read: which networks, which files, under which names.

Each layout's module turns a folder into a ``Source``; loading, checking and converting work on that alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import nn

from kinescribe.catalog import Layout, ModelSpec
from kinescribe.checkpoints.keymap import (
    Aliases,
    Foreign,
    KeyMap,
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

PartName = Literal["unet", "vae", "text"]
Config = UNetConfig | VAEConfig | TextConfig

# Tensors of the relatives of the text-to-video UNet, under either layout's names, and whose they are.
_RELATIVES = (
    (r"^image_latents_", "I2VGen-XL (image-to-video)"),
    (r"^local_image_", "I2VGen-XL (image-to-video)"),
    (r"^context_embedding(_new)?\.\d", "ModelScope Image-to-Video"),
    (r"^(depth|sketch|single_sketch|motion|masked|canny)_(embedding|condition)", "VideoComposer"),
    (r"^pre_image(_condition)?\.", "VideoComposer or TF-T2V"),
    (r"^(a|m)sim_embedding\.", "HiGen"),
    (r"(lora_(up|down|A|B)|_lora)\b", "a low-rank adapter (InstructVideo or LoRA), not whole weights"),
    (r"adapter\.", "a DreamVideo adapter, not whole weights"),
    (r"^fps_embedding\.", "an image-to-video or fps-conditioned model"),
    (r"^add_embedding\.|^class_embedding\.", "an image model"),
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
            raise WeightsError(f"{self.files[0]}: {report}; {self.guess(used)}")
        return weights, used

    def names(self, weights: WeightFile) -> tuple[dict[str, str], tuple[str, ...]]:
        """Key-map names to file names, and the file's names that are not needed."""
        try:
            return self.aliases.apply(weights.shapes)
        except KeyError as error:
            raise WeightsError(
                f"{self.files[0]}: {error.args[0]!r} repeats a tensor that it holds under another name"
            ) from error

    def guess(self, names: dict[str, str]) -> str:
        """What a file with unfitting tensors seems to be, and what to do."""
        if self.name == "unet":
            import re

            for pattern, family in _RELATIVES:
                if any(re.search(pattern, name) for name in names):
                    return f"this looks like {family}: text-to-video needs a text-to-video model"
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

    def completed_from(self, other: Self) -> Self:
        """This source with the networks whose files are absent taken from ``other``."""
        taken = {part.name: getattr(other, part.name) for part in self.parts if not part.files}
        tokenizer = other.tokenizer if "text" in taken else self.tokenizer
        return replace(self, tokenizer=tokenizer, **taken)


def build(config: Config) -> nn.Module:
    """The network of a config, on the device of the context (``with torch.device("meta")``)."""
    if isinstance(config, UNetConfig):
        return UNet(config)
    return AutoencoderKL(config) if isinstance(config, VAEConfig) else TextEncoder(config)


def part(
    config: Config, *, layout: Foreign | None, files: tuple[Path, ...], wanted: str, aliases: Aliases
) -> Part:
    """Describe one network; ``layout`` None means our own names."""
    with torch.device("meta"):
        network = build(config)
    name: PartName
    if isinstance(config, UNetConfig):
        name, rows = "unet", unet_rows(config)
    elif isinstance(config, VAEConfig):
        name, rows = "vae", vae_rows(config)
    else:
        name, rows = "text", text_rows(config)
    keymap = own_map(network) if layout is None else key_map(network, rows, layout)
    return Part(name=name, config=config, keymap=keymap, aliases=aliases, files=files, wanted=wanted)
