"""Spatial and temporal transformers: specification of ModelScope's text-to-video report, section 3.2."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from kinescribe.models.conditions import spread
from kinescribe.ops.attention import attention, frame_attention
from kinescribe.ops.ending import end_copy_for, end_onto, gated_for
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.layer_norm import LayerNorm
from kinescribe.ops.linear import (
    Linear,
    Unbiased,
    leaves_bias,
    linear_add,
    linear_geglu,
    linear_onto,
)
from kinescribe.ops.linear_fp8 import EndCopy, Rows8, rearranged
from kinescribe.ops.normed_linear import linear_behind, norm_before
from kinescribe.ops.packed import together
from kinescribe.ops.parts import Parts, viewed, whole
from kinescribe.ops.slices import in_slices, rows_at_once
from kinescribe.ops.temporal import clips, pictures

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
Keys = tuple[Tensor, Tensor]
"""Keys and values of an attention, each ``b n d``."""


class Attention(nn.Module):
    """Projections around ``attend``, which says along which axis one looks."""

    def __init__(self, width: int, context_width: int, heads: int, attend: Attend) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.q = Linear(width, width, bias=False)
        self.k = nn.Linear(context_width, width, bias=False)
        self.v = nn.Linear(context_width, width, bias=False)
        self.out = Linear(width, width)

    def forward(self, x: Float[Tensor, "*tokens d"] | Rows8, keys: Keys | None = None) -> Unbiased:
        """Every token of ``x`` gathers from those that ``keys`` were made of, or from those of ``x``; same shape.

        Beside it a bias that is still to be added, or None.
        """
        if keys is None:
            q, k, v = together(x, (self.q, self.k, self.v))
        else:
            q, (k, v) = self.q(x), keys
        return self.out.leaving_bias(self.attend(q, k, v, self.heads))


class FeedForward(nn.Module):
    """Gated linear unit with an exact GELU (GEGLU): value half first, gate half second; added to a stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 8 * width)
        self.down = nn.Linear(4 * width, width)

    def ahead(self, stream: Float[Tensor, "*tokens d"]) -> Float[Tensor, " d"] | None:
        """What is to be added to the stream beforehand: the last bias, where the product then adds itself onto it."""
        return self.down.bias if leaves_bias(stream, self.down) else None

    def forward(
        self,
        x: Float[Tensor, "*tokens d"] | Rows8,
        stream: Float[Tensor, "*tokens d"],
        ahead: Float[Tensor, " d"] | None = None,
    ) -> Float[Tensor, "*tokens d"]:
        """``stream`` and what becomes of ``x``; same shape. With ``ahead`` in it already, the stream is written to."""
        inside = linear_geglu(x, self.up.weight, self.up.bias)
        if ahead is not None:
            return linear_onto(stream, inside, self.down.weight)
        return linear_add(inside, self.down.weight, self.down.bias, stream)


class TransformerLayer(nn.Module):
    """Two attentions and a feed-forward, each on the normalised stream and added back."""

    def __init__(self, width: int, heads: int, *, first: Attend, second: Attend, context_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(width) for _ in range(3))
        self.attention1 = Attention(width, width, heads, first)
        self.attention2 = Attention(width, context_width, heads, second)
        self.feed_forward = FeedForward(width)

    # Each norm is told the weight that reads it, which may want it in 8 bits.

    def looked(self, y: Float[Tensor, "*tokens d"]) -> tuple[Float[Tensor, "*tokens d"], Tensor | Rows8]:
        """The stream after the first attention, and its norm for the second."""
        first, second = self.attention1, self.attention2
        return self.norm2.added(y, first(self.norm1.before(first.q.weight, y)), before=second.q.weight)


@dataclass(frozen=True)
class Ending:
    """The last two linear layers of a transformer as one: ``out(stream + down(x))`` is a product of ``[stream | x]``.

    What both biases come to is in the clip ahead of it, and ``undo`` takes that out where the clip is read. The
    ``weight`` is ``[out | out down]``. With a ``copy`` that is used instead, and ``x`` is in 8 bits.
    """

    weight: Float[Tensor, "c d5"]
    undo: Float[Tensor, "1 c"]
    copy: EndCopy | None


class Transformer(nn.Module):
    """What both kinds have in common: a norm, the way into the layer and the way back, added to the input."""

    def __init__(self, channels: int, inner: int, groups: int, layer: TransformerLayer) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.layer = layer
        self.project_out = zeroed(nn.Linear(inner, channels))

    def last(self) -> tuple[nn.Linear, nn.Linear]:
        """The last two linear layers."""
        return self.layer.feed_forward.down, self.project_out

    def ended(self) -> tuple[Float[Tensor, "c d5"], Float[Tensor, " c"]]:
        """These as one: weight, made in float32, and bias."""
        down, out = self.last()
        wide = out.weight.float()
        weight = torch.cat([wide, wide @ down.weight.float()], 1)
        return weight.to(out.weight.dtype), wide @ down.bias.float() + out.bias.float()

    def ending(self, weight: Float[Tensor, "c d5"], undo: Float[Tensor, "1 c"], rows: int) -> Ending:
        """That of these numbers, for so many tokens."""
        up, out = self.layer.feed_forward.up, self.project_out
        return Ending(weight, undo, end_copy_for(rows, up.weight, out.weight))

    # The last steps are three, so that the caller lets go of what each has used up.

    def add_last(
        self, stream: Float[Tensor, "*tokens d"], branch: Unbiased, ending: Ending | None
    ) -> tuple[Tensor, Float[Tensor, "*tokens d"] | Rows8]:
        """The stream with its last attention, and the norm of that; for an ``ending`` of 16 bits in wider rows."""
        norm, forward, d = self.layer.norm3, self.layer.feed_forward, stream.shape[-1]
        if ending is None:
            return norm.added(stream, branch, forward.ahead(stream), before=forward.up.weight)
        if ending.copy is not None:
            return norm.added(stream, branch, before=forward.up.weight)
        wide = stream.new_empty((*stream.shape[:-1], ending.weight.shape[1]))
        return wide, norm.added(stream, branch, into=wide[..., :d], before=forward.up.weight)[1]

    def feed(
        self, normed: Float[Tensor, "*tokens d"] | Rows8, stream: Tensor, ending: Ending | None
    ) -> tuple[Tensor, Tensor | None]:
        """The stream with the feed-forward; with an ``ending`` beside what that is to be made of, 8 bits apart."""
        forward = self.layer.feed_forward
        if ending is None:
            return forward(normed, stream, forward.ahead(stream)), None
        if ending.copy is not None:
            return stream, gated_for(ending.copy, normed, forward.up)
        beside = stream[..., self.project_out.in_features :]
        linear_geglu(normed, forward.up.weight, forward.up.bias, beside)
        return stream, None

    def leave(
        self, clip: Float[Tensor, "*tokens c"], stream: Tensor, gated: Tensor | None, ending: Ending | None
    ) -> Tensor:
        """The clip and what becomes of the stream; with an ``ending`` in the memory of the clip."""
        out = self.project_out
        if ending is None:
            return linear_add(stream, out.weight, out.bias, clip)
        if ending.copy is None or gated is None:
            return linear_onto(clip.contiguous(), stream, ending.weight)
        return end_onto(clip.contiguous(), stream, gated, out.weight, ending.copy)


class SpatialTransformer(Transformer):
    """Every frame attends over its own pixels, then over the text; added to the input."""

    def __init__(self, channels: int, heads: int, context_width: int, groups: int) -> None:
        layer = TransformerLayer(
            channels, heads, first=attention, second=attention, context_width=context_width
        )
        super().__init__(channels, channels, groups, layer)

    def forward(
        self, x: Float[Tensor, "s c f h w"] | Parts, keys: Keys, ending: Ending | None = None
    ) -> Float[Tensor, "b c f h w"]:
        """Each clip under the text of ``keys``, which all its frames see; or, of fewer clips, under several texts.

        With an ``ending`` the clip itself is written to. Frames know nothing of each other here: of a large clip some
        are worked on at a time.
        """
        _, _, f, h, w = x.shape
        at_once = rows_at_once() // (len(keys[0]) * h * w)
        if f <= at_once:
            return self._frames(x, keys, ending)
        return in_slices(lambda part: self._frames(part, keys, ending), whole(x), 2, at_once)

    def _frames(
        self, x: Float[Tensor, "s c f h w"] | Parts, keys: Keys, ending: Ending | None
    ) -> Float[Tensor, "b c f h w"]:
        s, _, f, h, w = x.shape
        b = len(keys[0])
        layer = self.layer

        def by_clip(z: Tensor) -> Tensor:
            return spread(rearrange(z, "(s f) n c -> s (f n) c", s=s), b)

        undo = None if ending is None else ending.undo
        flat, y = norm_before(self.project_in, self.norm, viewed(x, pictures), undo)
        y = linear_behind(self.project_in, y.flatten(1, 2), flat.dtype)
        y, read = layer.looked(y)
        y, read = by_clip(y), rearranged(by_clip, read)
        y, read = self.add_last(y, layer.attention2(read, keys), ending)
        y, gated = self.feed(read, y, ending)
        clip = rearrange(spread(clips(flat, s), b), "b c f h w -> b (f h w) c")
        y = self.leave(clip, y, gated, ending)
        return rearrange(y, "b (f h w) c -> b c f h w", f=f, h=h, w=w)


class TemporalTransformer(Transformer):
    """Every pixel attends over its own frames, twice; added to the input. The text is not seen."""

    def __init__(self, channels: int, heads: int, head_dim: int, groups: int) -> None:
        inner = heads * head_dim  # differs from channels in the transformer of the stem only
        layer = TransformerLayer(
            inner, heads, first=frame_attention, second=frame_attention, context_width=inner
        )
        super().__init__(channels, inner, groups, layer)

    def forward(
        self, x: Float[Tensor, "b c f h w"], ending: Ending | None = None
    ) -> Float[Tensor, "b c f h w"]:
        """Same shape. Normalised over all frames; some pixels of a large clip are worked on at a time, the last layer
        apart. With an ``ending``, for clips that are small enough to be worked on in whole, the clip is written to.
        """
        b, _, f, h, w = x.shape
        x = rearrange(x, "b c f h w -> b c f (h w)")
        x, y = norm_before(self.project_in, self.norm, x, None if ending is None else ending.undo)
        x = rearrange(x, "b c f n -> b f n c")
        if ending is None:
            at_once = rows_at_once() // (b * f)
            y, gated = in_slices(lambda part: self._pixels(part, x.dtype, None)[0], y, 2, at_once), None
        else:
            y, gated = self._pixels(y, x.dtype, ending)
        y = self.leave(x, y, gated, ending)
        return rearrange(y, "b f (h w) c -> b c f h w", h=h, w=w)

    def _pixels(
        self, y: Shaped[Tensor, "b f n c"], dtype: torch.dtype, ending: Ending | None
    ) -> tuple[Tensor, Tensor | None]:
        layer = self.layer
        y = linear_behind(self.project_in, y, dtype)
        y, read = layer.looked(y)
        y, read = self.add_last(y, layer.attention2(read), ending)
        return self.feed(read, y, ending)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with all parameters zero, so that its branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
