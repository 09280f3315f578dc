"""Scaled dot-product attention, over tokens of a frame and over the frames of a pixel."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.select import best_attention_first, frame_attention_version, wide_head_pays
from kinescribe.ops.slices import in_slices

QUERIES = 2048
"""Tokens of a picture whose scores exist together: 2 ** 25 numbers for as many pixels as are decoded at once."""


def attention_reference(
    q: Float[Tensor, "b n dh"], k: Float[Tensor, "b m dh"], v: Float[Tensor, "b m dh"], heads: int
) -> Float[Tensor, "b n dh"]:
    """``softmax(q k' / sqrt(d)) v`` for each of ``heads`` slices of the last axis, written out."""
    q, k, v = (rearrange(x, "b n (heads d) -> b heads n d", heads=heads) for x in (q, k, v))
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return rearrange(scores.softmax(-1) @ v, "b heads n d -> b n (heads d)")


def attention(
    q: Float[Tensor, "b n dh"],
    k: Float[Tensor, "b m dh"],
    v: Float[Tensor, "b m dh"],
    heads: int,
    *,
    causal: bool = False,
) -> Float[Tensor, "b n dh"]:
    """:func:`attention_reference` through the fused kernel of the device; of one wide head by products.

    ``causal`` hides later tokens from earlier ones (``n == m``).
    """
    if not causal and wide_head_pays(q, heads):
        return attention_by_products(q, k, v)
    q, k, v = (rearrange(x, "b n (heads d) -> b heads n d", heads=heads) for x in (q, k, v))
    with best_attention_first(q):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return rearrange(out, "b heads n d -> b n (heads d)")


def attention_by_products(
    q: Float[Tensor, "b n d"], k: Float[Tensor, "b m d"], v: Float[Tensor, "b m d"]
) -> Float[Tensor, "b n d"]:
    """:func:`attention_reference` of one head, ``QUERIES`` rows of scores at a time; for inference."""
    return in_slices(lambda rows: _scores(rows, k).softmax(-1).to(v.dtype) @ v, q, 1, QUERIES)


def _scores(q: Float[Tensor, "b n d"], k: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
    """``q k' / sqrt(d)`` in float32 at least: float16 ends at 65,504, and a softmax wants differences."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scores, scale = q.new_empty(*q.shape[:2], k.shape[1], dtype=wide), q.shape[-1] ** -0.5
    if q.device.type == "meta":  # where torch fails at the product below
        return scores
    if q.device.type == "cuda":  # without ``out`` it would copy its first argument there, though beta is 0
        return torch.baddbmm(scores, q, k.mT, wide, beta=0, alpha=scale, out=scores)
    return torch.baddbmm(scores, q.to(wide), k.mT.to(wide), beta=0, alpha=scale, out=scores)


def frame_attention_reference(
    q: Float[Tensor, "b f n dh"], k: Float[Tensor, "b f n dh"], v: Float[Tensor, "b f n dh"], heads: int
) -> Float[Tensor, "b f n dh"]:
    """Attention along ``f``: every one of the ``n`` positions attends over its own frames."""
    b = q.shape[0]
    q, k, v = (rearrange(x, "b f n d -> (b n) f d") for x in (q, k, v))
    return rearrange(attention_reference(q, k, v, heads), "(b n) f d -> b f n d", b=b)


def frame_attention(
    q: Float[Tensor, "b f n dh"], k: Float[Tensor, "b f n dh"], v: Float[Tensor, "b f n dh"], heads: int
) -> Float[Tensor, "b f n dh"]:
    """:func:`frame_attention_reference`, in the version that suits the device, see ``select``."""
    version = frame_attention_version(q, heads)
    if version == "kernel":
        from kinescribe.ops.frame_attention_triton import frame_attention_op

        return frame_attention_op(q, k, v, heads)
    b = q.shape[0]
    if version == "fused":
        q, k, v = (rearrange(x, "b f n (heads d) -> (b n) heads f d", heads=heads) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return rearrange(out, "(b n) heads f d -> b f n (heads d)", b=b)
    q, k, v = (rearrange(x, "b f n (heads d) -> (b n heads) f d", heads=heads) for x in (q, k, v))
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    wide = torch.promote_types(v.dtype, torch.float32)  # as fused kernels sum, too
    weights = scores.softmax(-1, dtype=wide).to(v.dtype)
    return rearrange(weights @ v, "(b n heads) f d -> b f n (heads d)", b=b, heads=heads)
