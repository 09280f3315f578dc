"""Scaled dot-product attention, over tokens of a frame and over the frames of a pixel."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.select import best_attention_first, frame_attention_version


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
    """The same as :func:`attention_reference` through the fused kernel of the device.

    ``causal`` hides later tokens from earlier ones (``n == m``).
    """
    q, k, v = (rearrange(x, "b n (heads d) -> b heads n d", heads=heads) for x in (q, k, v))
    with best_attention_first(q):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return rearrange(out, "b heads n d -> b n (heads d)")


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
