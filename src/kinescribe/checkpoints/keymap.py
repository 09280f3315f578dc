"""Our parameter names beside those of the two published layouts, as tables; nothing here reads a file.

ModelScope's names are those of its own UNet, of latent-diffusion's autoencoder and of OpenCLIP's text tower;
VGen and the web-UI folders share them. The diffusers names are those of its current classes; older ones are
brought to these by ``Aliases``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig

Foreign = Literal["modelscope", "diffusers"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One module under its three names.

    A name ending in ``*`` holds the place of ``weight`` or ``bias`` itself. ``ones`` counts the axes of length
    one that the foreign weight has behind ours, ModelScope's first: a 1 x 1 convolution where we have a linear
    layer, a 3-D kernel where we have a 2-D one. Several diffusers names stand for equal slices of our rows.
    ``transposed`` names the layout, if any, in which a matrix lies with its axes exchanged.
    """

    ours: str
    modelscope: str
    diffusers: str | tuple[str, ...]
    ones: tuple[int, int] = (0, 0)
    transposed: Foreign | None = None


@dataclass(frozen=True)
class Entry:
    """One of our tensors, the foreign tensor or tensors that hold it, and their extra axes of length one.

    A single foreign matrix may hold ours ``transposed``.
    """

    ours: str
    foreign: tuple[str, ...]
    ones: int
    transposed: bool = False


@dataclass(frozen=True)
class Mismatch:
    """A tensor of another shape than the model needs."""

    name: str
    found: Shape
    wanted: Shape


@dataclass(frozen=True)
class KeyReport:
    """What a set of foreign tensors lacks, has too much, or holds in the wrong shape."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong: tuple[Mismatch, ...]

    @property
    def ok(self) -> bool:
        """Every tensor is accounted for."""
        return not (self.missing or self.unexpected or self.wrong)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what} ({_first(names)})"
            for what, names in (("missing", self.missing), ("unexpected", self.unexpected))
            if names
        ]
        if self.wrong:
            shown = [f"{m.name} is {m.found}, not {m.wanted}" for m in self.wrong]
            parts.append(f"{len(self.wrong)} of a wrong shape ({_first(shown)})")
        return "; ".join(parts) or "every tensor found"


@dataclass(frozen=True)
class KeyMap:
    """The complete correspondence between our tensors of one network and those of one layout."""

    entries: tuple[Entry, ...]
    shapes: Mapping[str, Shape]
    """Our names and shapes."""

    @cached_property
    def foreign_shapes(self) -> dict[str, Shape]:
        """Every foreign name with the shape that it has when written."""
        shapes = {}
        for entry in self.entries:
            ours = self.shapes[entry.ours]
            ours = ours[::-1] if entry.transposed else ours
            rows = ours[0] // len(entry.foreign)
            for name in entry.foreign:
                shapes[name] = (rows, *ours[1:], *(1,) * entry.ones)
        return shapes

    def report(self, found: Mapping[str, Shape]) -> KeyReport:
        """Compare foreign names and shapes, exactly but for axes of length one at the end of a shape."""
        wanted = self.foreign_shapes
        return KeyReport(
            missing=tuple(name for name in wanted if name not in found),
            unexpected=tuple(name for name in found if name not in wanted),
            wrong=tuple(
                Mismatch(name, found[name], shape)
                for name, shape in wanted.items()
                if name in found and trimmed(found[name]) != trimmed(shape)
            ),
        )

    def to_ours(self, read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Our tensors one by one, each made of what ``read`` gives for a foreign name."""
        for entry in self.entries:
            parts = [read(name) for name in entry.foreign]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            whole = whole.mT.contiguous() if entry.transposed else whole
            yield entry.ours, whole.reshape(self.shapes[entry.ours])

    def to_foreign(self, read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Foreign tensors one by one, each made of what ``read`` gives for one of our names."""
        for entry in self.entries:
            whole = read(entry.ours)
            whole = whole.mT.contiguous() if entry.transposed else whole
            for name, part in zip(entry.foreign, whole.chunk(len(entry.foreign)), strict=True):
                yield name, part.reshape(self.foreign_shapes[name])


@dataclass(frozen=True)
class Aliases:
    """How names in a file become the names of a key map: ``renames`` in order, then ``ignored`` left out.

    Both hold regular expressions; a rename is a pattern and its replacement. Where ``only`` is given, names
    that it does not match are ignored as well.
    """

    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    only: str = ""

    def apply(self, names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        """Canonical name to file name, and the file's names that are ignored.

        Raises:
            KeyError: two names of the file mean the same tensor; the argument names the second.
        """
        used: dict[str, str] = {}
        ignored = []
        for name in names:
            canonical = name
            for pattern, replacement in self.renames:
                canonical = re.sub(pattern, replacement, canonical)
            outside = self.only and not re.match(self.only, name.removeprefix("module."))
            if outside or any(re.search(pattern, canonical) for pattern in self.ignored):
                ignored.append(name)
            elif canonical in used:
                raise KeyError(name)
            else:
                used[canonical] = name
        return used, tuple(ignored)


def unet_rows(config: UNetConfig) -> Iterator[Row]:
    """Every module of a UNet."""
    r, levels = config.blocks_per_level, len(config.multipliers)
    yield Row("time_embedding.0", "time_embed.0", "time_embedding.linear_1")
    yield Row("time_embedding.2", "time_embed.2", "time_embedding.linear_2")
    yield Row("stem", "input_blocks.0.0", "conv_in")
    yield from _inside(_TEMPORAL, "stem_temporal", "input_blocks.0.1", "transformer_in")
    for i, attention in enumerate(config.attention_levels):
        for j in range(r):
            ours, theirs = f"down.{i}.blocks.{j}", f"input_blocks.{1 + i * (r + 1) + j}"
            yield from _block(ours, theirs, f"down_blocks.{i}", j, attention=attention)
        if i < levels - 1:
            theirs = f"input_blocks.{(i + 1) * (r + 1)}.op"
            yield Row(f"down.{i}.resample.conv", theirs, f"down_blocks.{i}.downsamplers.0.conv")
    yield from _residual("middle.enter", "middle_block.0", "mid_block", 0)
    yield from _inside(_SPATIAL, "middle.spatial", "middle_block.1", "mid_block.attentions.0")
    yield from _inside(_TEMPORAL, "middle.temporal", "middle_block.2", "mid_block.temp_attentions.0")
    yield from _residual("middle.leave", "middle_block.3", "mid_block", 1)
    for i, attention in enumerate(reversed(config.attention_levels)):
        for j in range(r + 1):
            ours, theirs = f"up.{i}.blocks.{j}", f"output_blocks.{i * (r + 1) + j}"
            yield from _block(ours, theirs, f"up_blocks.{i}", j, attention=attention)
        if i < levels - 1:
            # ModelScope counts the modules of a block: the upsampler comes behind the transformers, if any.
            theirs = f"output_blocks.{i * (r + 1) + r}.{3 if attention else 1}.conv"
            yield Row(f"up.{i}.resample.conv", theirs, f"up_blocks.{i}.upsamplers.0.conv")
    yield Row("norm", "out.0", "conv_norm_out")
    yield Row("head", "out.2", "conv_out")


def vae_rows(config: VAEConfig) -> Iterator[Row]:
    """Every module of an autoencoder."""
    levels = len(config.multipliers)
    for side, far in (("encoder", "down"), ("decoder", "up")):
        yield Row(f"{side}.stem", f"{side}.conv_in", f"{side}.conv_in")
        blocks = config.blocks_per_level + (side == "decoder")
        for i in range(levels):
            # Latent diffusion numbers the decoder's levels by resolution, finest first.
            theirs = f"{side}.{far}.{i if side == 'encoder' else levels - 1 - i}"
            place = f"{side}.{far}_blocks.{i}"
            for j in range(blocks):
                yield from _inside(
                    _PICTURE, f"{side}.levels.{i}.{j}", f"{theirs}.block.{j}", f"{place}.resnets.{j}"
                )
            if i < levels - 1:
                yield Row(
                    f"{side}.levels.{i}.{blocks}.conv",
                    f"{theirs}.{far}sample.conv",
                    f"{place}.{far}samplers.0.conv",
                )
        middle = f"{side}.mid_block"
        for j in (0, 1):
            ours = f"{side}.middle.{2 * j}"
            yield from _inside(_PICTURE, ours, f"{side}.mid.block_{j + 1}", f"{middle}.resnets.{j}")
        yield from _inside(
            _PICTURE_ATTENTION, f"{side}.middle.1", f"{side}.mid.attn_1", f"{middle}.attentions.0"
        )
        yield Row(f"{side}.norm", f"{side}.norm_out", f"{side}.conv_norm_out")
        yield Row(f"{side}.head", f"{side}.conv_out", f"{side}.conv_out")
    yield Row("quantise", "quant_conv", "quant_conv")
    yield Row("unquantise", "post_quant_conv", "post_quant_conv")


def text_rows(config: TextConfig) -> Iterator[Row]:
    """Every module of a text tower that runs; diffusers names without their ``text_model.`` prefix."""
    yield Row("tokens", "token_embedding", "embeddings.token_embedding")
    yield Row("positions", "positional_embedding*", "embeddings.position_embedding.weight*")
    for n in range(config.layers):
        yield from tower_rows(f"layers.{n}", f"transformer.resblocks.{n}", f"encoder.layers.{n}")
    yield Row("norm", "ln_final", "final_layer_norm")


def tower_rows(ours: str, modelscope: str, diffusers: str) -> Iterator[Row]:
    """Every module of one layer of a text or image tower."""
    yield from _inside(_TOWER, ours, modelscope, diffusers)
    slices = tuple(f"{diffusers}.self_attn.{part}_proj" for part in "qkv")
    yield Row(f"{ours}.qkv", f"{modelscope}.attn.in_proj_*", slices)


def key_map(network: nn.Module, rows: Iterable[Row], layout: Foreign) -> KeyMap:
    """The key map of a network (meta tensors will do) for one layout.

    Raises:
        KeyError: a parameter of the network has no row; a fault of the tables.
    """
    table = {row.ours: row for row in rows}
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    entries = []
    for name in shapes:
        module, _, kind = name.rpartition(".")
        row = table[module] if module in table else table[name]
        foreign = row.modelscope if layout == "modelscope" else row.diffusers
        patterns = (foreign,) if isinstance(foreign, str) else foreign
        suffix = "" if row.ours == name else kind
        names = tuple(_named(pattern, suffix) for pattern in patterns)
        ones = row.ones[layout == "diffusers"] if kind == "weight" else 0
        entries.append(Entry(name, names, ones, row.transposed == layout))
    return KeyMap(tuple(entries), shapes)


def own_map(network: nn.Module) -> KeyMap:
    """The key map of our own layout: every name is its own counterpart."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return KeyMap(tuple(Entry(name, (name,), 0) for name in shapes), shapes)


def trimmed(shape: Shape) -> Shape:
    """The shape without axes of length one at its end."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


_Tails = tuple[tuple[str, str, str, tuple[int, int]], ...]
_SAME = (0, 0)
_RESIDUAL: _Tails = (
    ("norm1", "in_layers.0", "norm1", _SAME),
    ("conv1", "in_layers.2", "conv1", _SAME),
    ("embed", "emb_layers.1", "time_emb_proj", _SAME),
    ("norm2", "out_layers.0", "norm2", _SAME),
    ("conv2", "out_layers.3", "conv2", _SAME),
    ("shortcut", "skip_connection", "conv_shortcut", _SAME),
)
# The convolution stands third in the first stage and fourth, behind a dropout, in the others.
_TEMPORAL_CONV: _Tails = tuple(
    row
    for i, place in enumerate((2, 3, 3, 3))
    for row in (
        (f"stages.{i}.norm", f"conv{i + 1}.0", f"conv{i + 1}.0", _SAME),
        (f"stages.{i}.conv", f"conv{i + 1}.{place}", f"conv{i + 1}.{place}", (1, 1)),
    )
)
_LAYER: _Tails = (
    *((f"layer.norm{i}",) + (f"transformer_blocks.0.norm{i}",) * 2 + (_SAME,) for i in (1, 2, 3)),
    *(
        (f"layer.attention{i}.{ours}",) + (f"transformer_blocks.0.attn{i}.{theirs}",) * 2 + (_SAME,)
        for i in (1, 2)
        for ours, theirs in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("out", "to_out.0"))
    ),
    ("layer.feed_forward.up",) + ("transformer_blocks.0.ff.net.0.proj",) * 2 + (_SAME,),
    ("layer.feed_forward.down",) + ("transformer_blocks.0.ff.net.2",) * 2 + (_SAME,),
)
_SPATIAL: _Tails = (
    ("norm", "norm", "norm", _SAME),
    ("project_in", "proj_in", "proj_in", _SAME),
    ("project_out", "proj_out", "proj_out", _SAME),
    *_LAYER,
)
# Along time ModelScope projects with 1-D convolutions, diffusers with linear layers.
_TEMPORAL: _Tails = (
    ("norm", "norm", "norm", _SAME),
    ("project_in", "proj_in", "proj_in", (1, 0)),
    ("project_out", "proj_out", "proj_out", (1, 0)),
    *_LAYER,
)
_PICTURE: _Tails = (
    *((name, name, name, _SAME) for name in ("norm1", "conv1", "norm2", "conv2")),
    ("shortcut", "nin_shortcut", "conv_shortcut", _SAME),
)
_PICTURE_ATTENTION: _Tails = (
    ("norm", "norm", "group_norm", _SAME),
    ("q", "q", "to_q", (2, 0)),
    ("k", "k", "to_k", (2, 0)),
    ("v", "v", "to_v", (2, 0)),
    ("out", "proj_out", "to_out.0", (2, 0)),
)
_TOWER: _Tails = (
    ("norm1", "ln_1", "layer_norm1", _SAME),
    ("out", "attn.out_proj", "self_attn.out_proj", _SAME),
    ("norm2", "ln_2", "layer_norm2", _SAME),
    ("up", "mlp.c_fc", "mlp.fc1", _SAME),
    ("down", "mlp.c_proj", "mlp.fc2", _SAME),
)


def _inside(tails: _Tails, ours: str, modelscope: str, diffusers: str) -> Iterator[Row]:
    for a, b, c, ones in tails:
        yield Row(f"{ours}.{a}", f"{modelscope}.{b}", f"{diffusers}.{c}", ones)


def _residual(ours: str, modelscope: str, diffusers: str, j: int) -> Iterator[Row]:
    yield from _inside(_RESIDUAL, ours, modelscope, f"{diffusers}.resnets.{j}")
    # The misspelling is ModelScope's and in every published file.
    theirs = f"{modelscope}.temopral_conv"
    yield from _inside(_TEMPORAL_CONV, f"{ours}.temporal", theirs, f"{diffusers}.temp_convs.{j}")


def _block(ours: str, modelscope: str, diffusers: str, j: int, *, attention: bool) -> Iterator[Row]:
    yield from _residual(f"{ours}.residual", f"{modelscope}.0", diffusers, j)
    if attention:
        yield from _inside(_SPATIAL, f"{ours}.spatial", f"{modelscope}.1", f"{diffusers}.attentions.{j}")
        place = f"{diffusers}.temp_attentions.{j}"
        yield from _inside(_TEMPORAL, f"{ours}.temporal", f"{modelscope}.2", place)


def _named(pattern: str, suffix: str) -> str:
    return pattern.replace("*", suffix) if "*" in pattern else f"{pattern}.{suffix}"


def _first(names: Iterable[str], count: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
