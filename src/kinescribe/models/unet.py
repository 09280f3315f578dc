"""The one UNet of the family: spatial layers on every frame, temporal layers on every pixel.

ModelScope text-to-video technical report (arXiv 2308.06571), section 3. All 1,480 tensors of the published
1.7 B checkpoints have their place here; a variant adds only what goes through a seam of ``Conditioning``.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.models.blocks import Downsample, ResidualBlock, Upsample
from kinescribe.models.conditions import Conditioning, SkipFilter, spread
from kinescribe.models.transformer import Attention, Ending, Keys, SpatialTransformer, TemporalTransformer
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.kept import Keeps
from kinescribe.ops.packed import lay_behind, lay_together, together
from kinescribe.ops.parts import Parts, first, side_by_side, whole
from kinescribe.ops.select import kernels_serve
from kinescribe.ops.slices import rows_at_once
from kinescribe.ops.temporal import channels_last, clips, pictures


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a UNet.

    ``in_channels`` counts latents and ``concat`` channels together. ``attention_levels`` says for each level,
    finest first, whether its blocks have transformers. ``stem_heads`` counts the heads of the temporal
    transformer behind the first convolution; every other transformer has ``channels // head_dim``.
    ``row_padding`` counts the zero rows above and below each strided convolution: 2 in ModelScope's
    Video-to-Video, whose levels of 90 rows have 46, 24 and 13, and 1 in every other published model.
    """

    in_channels: int
    out_channels: int
    width: int
    multipliers: tuple[int, ...]
    blocks_per_level: int
    attention_levels: tuple[bool, ...]
    head_dim: int
    stem_heads: int
    context_dim: int
    groups: int
    dropout: float
    row_padding: int = 1

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.width * m for m in self.multipliers)


def sinusoid(t: Num[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """``[cos(t w_i) | sin(t w_i)]`` with ``w_i = 10000^(-i / half)``, in float32; ``width`` is even."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000) / half))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


@dataclass(frozen=True)
class Told:
    """What the blocks are told beside the clip, made for all of them at once: shifts of time, keys of the text."""

    shifts: dict[nn.Module, Float[Tensor, "b o"]]
    keys: dict[nn.Module, Keys]


class Attending(Keeps):
    """A residual block and behind it a spatial and a temporal transformer, if there are any.

    It keeps the ends of both as one product each, see ``Ending``: as many numbers again as their last two layers have.
    """

    spatial: SpatialTransformer | None
    temporal: TemporalTransformer | None

    def attend(
        self, residual: ResidualBlock, x: Float[Tensor, "s c f h w"] | Parts, told: Told
    ) -> Float[Tensor, "b o f h w"]:
        """Through all three."""
        shift = told.shifts[residual][: x.shape[0]]
        if self.spatial is None or self.temporal is None:
            return whole(residual(x, shift))
        keys = told.keys[self.spatial]
        one, other, ahead = self._endings(first(x), len(keys[0]))
        return self.temporal(self.spatial(residual(x, shift, ahead), keys, one), other)

    def _endings(
        self, x: Tensor, clips: int
    ) -> tuple[Ending | None, Ending | None, Float[Tensor, "1 c"] | None]:
        """The ends of both transformers, and what has to be in the clip ahead of them; where all that is faster."""
        if self.spatial is None or self.temporal is None:
            return None, None, None
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None, None, None
        kept = self.kept()
        vectors = clips * x[0, 0].numel()
        if not kept or vectors > rows_at_once() or not kernels_serve(x, *kept):
            return None, None, None
        one, undo_both, other, undo_one, both = kept
        end = self.spatial.ending(one, undo_both, vectors)
        return end, self.temporal.ending(other, undo_one, vectors), both

    def sources(self) -> list[Tensor]:
        """Weights and biases of the last two layers of both transformers."""
        ends = [layer for each in (self.spatial, self.temporal) if each is not None for layer in each.last()]
        return [part for layer in ends for part in (layer.weight, layer.bias)]

    def made(self) -> tuple[Tensor, ...]:
        """Each end as one product, and what undoes the biases in the clip; last these. Nothing without kernels."""
        if self.spatial is None or self.temporal is None or not kernels_serve(*self.sources()):
            return ()
        (first, one), (second, other) = self.spatial.ended(), self.temporal.ended()
        biases = [bias[None].to(first.dtype) for bias in (-one - other, -other, one + other)]
        return first, biases[0], second, biases[1], biases[2]


class Block(Attending):
    """A residual block and, on levels with attention, a spatial and a temporal transformer."""

    def __init__(self, config: UNetConfig, c_in: int, c_out: int, *, attention: bool) -> None:
        super().__init__()
        self.residual = ResidualBlock(c_in, c_out, 4 * config.width, config.groups, config.dropout)
        self.spatial = spatial(config, c_out) if attention else None
        self.temporal = temporal(config, c_out) if attention else None

    def forward(self, x: Float[Tensor, "s c f h w"] | Parts, told: Told) -> Float[Tensor, "b o f h w"]:
        """``c_out`` channels; space and time keep their sizes. Each clip comes out under each of its texts."""
        return self.attend(self.residual, x, told)


class EncoderLevel(nn.Module):
    """The blocks of one resolution and the way down, if there is one; what each leaves is kept as a skip."""

    def __init__(self, blocks: list[Block], resample: Downsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample

    def forward(self, x: Tensor, told: Told, skips: list[Tensor]) -> Tensor:
        """``b c f h w`` to the next level's shape; appends to ``skips``."""
        for block in self.blocks:
            x = block(x, told)
            skips.append(x)
        if self.resample is not None:
            x = self.resample(x)
            skips.append(x)
        return x


class DecoderLevel(nn.Module):
    """The blocks of one resolution, each fed by a skip, and the way up, if there is one.

    ``first`` is the number that the first of ``blocks`` has among all of the decoder.
    """

    def __init__(
        self, blocks: list[Block], resample: Upsample | None, skip_filter: SkipFilter | None, first: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample
        self.skip_filter, self.first = skip_filter, first

    def forward(self, x: Tensor, told: Told, skips: list[Tensor]) -> Tensor:
        """``b c f h w`` to the next level's shape; takes from the end of ``skips``."""
        for i, block in enumerate(self.blocks, self.first):
            skip = skips.pop()
            if self.skip_filter is not None:
                x, skip = self.skip_filter(i, x, spread(skip, len(x)))
            x = side_by_side(x, skip)  # type: ignore[assignment] # so that nothing else is held
            del skip  # it is in x now
            x = block(x, told)
        if self.resample is not None:
            x = self.resample(x, skips[-1].shape[-2:])
        return x


class Middle(Attending):
    """The coarsest resolution; it always has attention."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        c = config.channels[-1]
        self.enter = ResidualBlock(c, c, 4 * config.width, config.groups, config.dropout)
        self.spatial = spatial(config, c)
        self.temporal = temporal(config, c)
        self.leave = ResidualBlock(c, c, 4 * config.width, config.groups, config.dropout)

    def forward(self, x: Float[Tensor, "s c f h w"], told: Told) -> Float[Tensor, "b c f h w"]:
        """Same shape, each of ``s`` clips under each of its texts."""
        return whole(self.leave(self.attend(self.enter, x, told), told.shifts[self.leave]))


class UNet(nn.Module):
    """Predicts noise, velocity or the clean clip (the schedule says which) from a noisy clip."""

    def __init__(self, config: UNetConfig, skip_filter: SkipFilter | None = None) -> None:
        super().__init__()
        self.config = config
        width, groups = config.width, config.groups
        self.time_embedding = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )
        self.stem = nn.Conv2d(config.in_channels, width, 3, padding=1)
        self.stem_temporal = TemporalTransformer(width, config.stem_heads, config.head_dim, groups)
        self.down, skips = encoder(config)
        self.middle = Middle(config)
        self.up = decoder(config, skips, skip_filter)
        self.norm = GroupNorm(groups, config.channels[0], eps=1e-5, silu=True)
        self.head = nn.Conv2d(config.channels[0], config.out_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        self.residuals = tuple(m for m in self.modules() if isinstance(m, ResidualBlock))
        self.spatials = tuple(m for m in self.modules() if isinstance(m, SpatialTransformer))

    def forward(
        self, x: Float[Tensor, "s c f h w"], t: Num[Tensor, " s"], conditioning: Conditioning
    ) -> Float[Tensor, "b o f h w"]:
        """``x`` holds noisy latents, ``t`` training steps (fractions allowed); any ``f``, ``h`` and ``w`` will do.

        ``conditioning`` may hold a multiple of the ``s`` clips, as both branches of guidance do: first the first text
        of every clip, then the second of every clip. What comes before the first look at the text is done once.
        """
        told = self.tell(spread(t, len(conditioning.tokens)), conditioning)
        return self.decode(*self.encode(x, told, conditioning), told)

    def encode(
        self, x: Float[Tensor, "s c f h w"], told: Told, conditioning: Conditioning
    ) -> tuple[Float[Tensor, "b k f y x"], list[Tensor]]:
        """From noisy latents to the middle of the network; with what each block of the way down left for the way up."""
        given = (conditioning.concat, conditioning.embedding, conditioning.hidden)
        if any(part is not None and len(part) > len(x) for part in given):
            x = spread(x, len(conditioning.tokens))
        if conditioning.concat is not None:
            x = torch.cat([x, spread(conditioning.concat, len(x))], 1)
        x = clips(self.stem(pictures(channels_last(x))), len(x))
        if conditioning.hidden is not None:
            x = x + spread(conditioning.hidden, len(x))
        x = self.stem_temporal(x)
        skips = [x]
        for level in self.down:
            x = level(x, told, skips)
        return self.middle(x, told), skips

    def decode(
        self, x: Float[Tensor, "b k f y x"], skips: list[Tensor], told: Told, after: int = 0
    ) -> Float[Tensor, "b o f h w"]:
        """From the middle, or from what so many levels made of it, to the answer; ``skips`` is emptied on the way."""
        for level in list(self.up)[after:]:
            x = level(x, told, skips)
        return clips(self.head(self.norm(pictures(x))), len(x))

    def tell(self, t: Num[Tensor, " b"], conditioning: Conditioning) -> Told:
        """Shifts of all residual blocks, keys and values of the text for all spatial transformers."""
        embedding = self.time_embedding(sinusoid(t, self.config.width).to(conditioning.tokens.dtype))
        if conditioning.embedding is not None:
            embedding = embedding + spread(conditioning.embedding, len(t))
        shifts = together(F.silu(embedding), [block.embed for block in self.residuals], self._shifts)
        keys = together(conditioning.tokens, self._readers)
        return Told(
            dict(zip(self.residuals, shifts, strict=True)),
            dict(zip(self.spatials, zip(keys[::2], keys[1::2], strict=True), strict=True)),
        )

    @property
    def _readers(self) -> list[nn.Linear]:
        """The layers that read the text: keys and values of every spatial transformer, one behind the other."""
        looks = [module.layer.attention2 for module in self.spatials]
        return [layer for look in looks for layer in (look.k, look.v)]

    @property
    def _shifts(self) -> list[Tensor]:
        """What every residual block adds to the shift that it makes of the time."""
        return [block.conv1.bias for block in self.residuals]

    def lay_together(self) -> None:
        """Lay weights that read the same input behind each other in memory, so that they become one product."""
        over_text = {module.layer.attention2 for module in self.spatials}
        for module in self.modules():
            if isinstance(module, Attention) and module not in over_text:
                lay_together((module.q, module.k, module.v))
        lay_together(self._readers)
        lay_together([block.embed for block in self.residuals])
        lay_behind(self._shifts)


def kept_numbers(config: UNetConfig) -> int:
    """How many numbers the modules of a UNet keep beside its weights while memory is plentiful, but for few."""
    levels = zip(config.channels, config.attention_levels, strict=True)
    pairs = [c for c, attention in levels if attention for _ in range(2 * config.blocks_per_level + 1)]
    endings = sum(2 * 5 * c * c for c in (*pairs, config.channels[-1]))
    phases = sum(16 * c * c for c in config.channels[1:])  # of the enlarging convolutions
    return endings + phases


def spatial(config: UNetConfig, channels: int) -> SpatialTransformer:
    """The spatial transformer of a level with ``channels``."""
    return SpatialTransformer(channels, channels // config.head_dim, config.context_dim, config.groups)


def temporal(config: UNetConfig, channels: int) -> TemporalTransformer:
    """The temporal transformer of a level with ``channels``."""
    return TemporalTransformer(channels, channels // config.head_dim, config.head_dim, config.groups)


def encoder(config: UNetConfig) -> tuple[nn.ModuleList, list[int]]:
    """The levels of the encoder, finest first, and the channels of the skips they leave, in order."""
    levels, skips, c_in = nn.ModuleList(), [config.width], config.width
    for c, attention in zip(config.channels, config.attention_levels, strict=True):
        blocks = []
        for _ in range(config.blocks_per_level):
            blocks.append(Block(config, c_in, c, attention=attention))
            c_in = c
            skips.append(c)
        last = len(levels) == len(config.channels) - 1
        levels.append(EncoderLevel(blocks, None if last else Downsample(c, config.row_padding)))
        skips += [] if last else [c]
    return levels, skips


def decoder(config: UNetConfig, skips: list[int], skip_filter: SkipFilter | None) -> nn.ModuleList:
    """The levels of the decoder, coarsest first: one block more than the encoder, each fed by a skip."""
    levels, c_in, skips = nn.ModuleList(), config.channels[-1], list(skips)
    pairs = zip(reversed(config.channels), reversed(config.attention_levels), strict=True)
    for c, attention in pairs:
        blocks = []
        for _ in range(config.blocks_per_level + 1):
            blocks.append(Block(config, c_in + skips.pop(), c, attention=attention))
            c_in = c
        resample = Upsample(c, config.row_padding) if skips else None
        levels.append(DecoderLevel(blocks, resample, skip_filter, len(levels) * len(blocks)))
    return levels
