"""Spatial and temporal transformers: specification of ModelScope's text-to-video report, section 3.2."""

from collections.abc import Callable

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.attention import attention, frame_attention
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.slices import ROWS, in_slices
from kinescribe.ops.temporal import pictures

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


class Attention(nn.Module):
    """Projections around ``attend``, which says along which axis one looks."""

    def __init__(self, width: int, context_width: int, heads: int, attend: Attend) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(context_width, width, bias=False)
        self.v = nn.Linear(context_width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "*tokens d"], context: Float[Tensor, "*context dc"]
    ) -> Float[Tensor, "*tokens d"]:
        """Every token of ``x`` gathers from ``context``; same shape as ``x``."""
        return self.out(self.attend(self.q(x), self.k(context), self.v(context), self.heads))


class FeedForward(nn.Module):
    """Gated linear unit with an exact GELU (GEGLU): value half first, gate half second."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 8 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens d"]:
        """Same shape."""
        value, gate = self.up(x).chunk(2, -1)
        return self.down(value * F.gelu(gate))


class TransformerLayer(nn.Module):
    """Two attentions and a feed-forward, each on the normalised stream and added back."""

    def __init__(self, width: int, heads: int, *, first: Attend, second: Attend, context_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention1 = Attention(width, width, heads, first)
        self.attention2 = Attention(width, context_width, heads, second)
        self.feed_forward = FeedForward(width)


class SpatialTransformer(nn.Module):
    """Every frame attends over its own pixels, then over the text; added to the input."""

    def __init__(self, channels: int, heads: int, context_width: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, channels)
        self.layer = TransformerLayer(
            channels, heads, first=attention, second=attention, context_width=context_width
        )
        self.project_out = zeroed(nn.Linear(channels, channels))

    def forward(
        self, x: Float[Tensor, "b c f h w"], tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c f h w"]:
        """Same shape. Frames know nothing of each other here: of a large clip some are worked on at a time."""
        b, _, _, h, w = x.shape
        return in_slices(lambda part: self._frames(part, tokens), x, 2, ROWS // (b * h * w))

    def _frames(
        self, x: Float[Tensor, "b c f h w"], tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c f h w"]:
        """Text keys and values are made once for all frames, which see the same text."""
        b, _, f, h, w = x.shape
        layer = self.layer
        y = rearrange(self.norm(pictures(x)), "bf c h w -> bf (h w) c")
        y = self.project_in(y)
        normed = layer.norm1(y)
        y = y + layer.attention1(normed, normed)
        y = rearrange(y, "(b f) n c -> b (f n) c", b=b)
        y = y + layer.attention2(layer.norm2(y), tokens)
        y = self.project_out(y + layer.feed_forward(layer.norm3(y)))
        return x + rearrange(y, "b (f h w) c -> b c f h w", f=f, h=h, w=w)


class TemporalTransformer(nn.Module):
    """Every pixel attends over its own frames, twice; added to the input. The text is not seen."""

    def __init__(self, channels: int, heads: int, head_dim: int, groups: int) -> None:
        super().__init__()
        inner = heads * head_dim  # differs from channels in the transformer of the stem only
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.layer = TransformerLayer(
            inner, heads, first=frame_attention, second=frame_attention, context_width=inner
        )
        self.project_out = zeroed(nn.Linear(inner, channels))

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """Same shape. Normalised over all frames at once; of a large clip some pixels are worked on at a time."""
        b, _, f, h, w = x.shape
        y = rearrange(self.norm(rearrange(x, "b c f h w -> b c f (h w)")), "b c f n -> b f n c")
        y = in_slices(self._pixels, y, 2, ROWS // (b * f))
        return x + rearrange(y, "b f (h w) c -> b c f h w", h=h, w=w)

    def _pixels(self, y: Float[Tensor, "b f n c"]) -> Float[Tensor, "b f n c"]:
        layer = self.layer
        y = self.project_in(y)
        normed = layer.norm1(y)
        y = y + layer.attention1(normed, normed)
        normed = layer.norm2(y)
        y = y + layer.attention2(normed, normed)
        return self.project_out(y + layer.feed_forward(layer.norm3(y)))


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with all parameters zero, so that its branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
