"""The end of a transformer with its large part in 8 bits: the gated layer and, as one, the last two layers behind it.

That is ``[stream | gated] @ [out | out down]'``, where ``gated`` is four times as wide as the stream. The kernel that
makes it writes 8 bits, for how large its columns become is known beforehand, as in ``ops.normed_convolution``: a layer
norm's row is ``n * w + b`` with ``n`` of zero mean and unit variance, so what row ``W_j`` of the layer behind it makes
has a deviation of about ``||W_j * w||`` around ``W_j b`` and its bias. A gate is no larger than what it is made of.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from kinescribe.ops.linear_fp8 import LARGEST, LEAST, EndCopy, Rows8, copy_of, end_copy_of, rows8
from kinescribe.ops.normed_convolution import DEVIATIONS, quantise
from kinescribe.ops.select import products_serve
from kinescribe.ops.tiles import end_tile, linear_tile_fp8


def end_copied(
    out: Float[Tensor, "c d"],
    down: Float[Tensor, "d d4"],
    up: Float[Tensor, "d8 d"],
    up_bias: Float[Tensor, " d8"],
    norm_weight: Float[Tensor, " d"],
    norm_bias: Float[Tensor, " d"],
) -> EndCopy:
    """The weights ``out`` and ``down`` as one in 8 bits, for what layer and gate make of a norm with these numbers."""
    wide = up.detach().to(torch.float32, copy=True)
    centre = (wide @ norm_bias.detach().float() + up_bias.detach().float()).abs()
    value, gate = (DEVIATIONS * wide.mul_(norm_weight.detach().float()).norm(dim=1) + centre).chunk(2)
    most = (value * gate).clamp(min=LEAST)
    folded = (out.detach().float() @ down.detach().float()).mul_(most / LARGEST)
    scale = folded.abs().amax().clamp(min=LEAST) / LARGEST
    return EndCopy(quantise(folded, scale), LARGEST / most, scale)


def end_copy_for(rows: int, up: Float[Tensor, "d8 d"], out: Float[Tensor, "c d"]) -> EndCopy | None:
    """The copy of the end behind a gated layer ``up``, if there is one here and now, and faster for so many rows."""
    copy = end_copy_of(out)
    if copy is None or copy_of(up) is None or not products_serve(out, up):
        return None
    return copy if linear_tile_fp8(rows, *up.shape) and end_tile(rows, len(out)) else None


def gated_for(end: EndCopy, x: Float[Tensor, "*rows d"] | Rows8, up: nn.Linear) -> Shaped[Tensor, "*rows d4"]:
    """The gated layer of ``x`` in 8 bits, times the factors of ``end``; where :func:`end_copy_for` gave that."""
    from kinescribe.ops.linear_fp8_triton import linear_gated_fp8

    copy, rows = copy_of(up.weight), rows8(x)
    if copy is None:
        raise ValueError("the gated layer has no copy in 8 bits here and now")
    out = end.numbers.new_empty((*rows.numbers.shape[:-1], len(end.factors)))
    numbers, scales = rows.numbers.flatten(0, -2), rows.scales.reshape(-1, 1)
    linear_gated_fp8(
        numbers, scales, copy.numbers, copy.scales, up.bias, out.view(-1, out.shape[-1]), end.factors
    )
    return out


def end_onto(
    clip: Float[Tensor, "*rows c"],
    stream: Float[Tensor, "*rows d"],
    gated: Shaped[Tensor, "*rows d4"],
    out: Float[Tensor, "c d"],
    end: EndCopy,
) -> Float[Tensor, "*rows c"]:
    """``clip``, without gaps, plus the end of ``stream`` and of what :func:`gated_for` made, in its memory."""
    from kinescribe.ops.linear_fp8_triton import linear_joined_fp8

    left, right = (x.reshape(-1, x.shape[-1]) for x in (stream, gated))
    linear_joined_fp8(clip.view(-1, clip.shape[-1]), left, right, out, end.numbers, end.scale)
    return clip
