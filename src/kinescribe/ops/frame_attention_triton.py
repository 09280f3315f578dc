"""Attention over the few frames of every pixel, as Triton kernels that read ``b f n (heads d)`` in place.

Library kernels want the frames next to each other and tile 64 to 128 rows: for 16 frames that means copies of
q, k, v and the result, and tiles that are mostly empty. Here a warp takes one pixel of one head, all frames at once:
16 frames are just one tile of its tensor core. The backward pass computes the probabilities again instead of
storing them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kinescribe.ops.operation import operation

WARPS = 4
"""Of a program. Up to 32 frames it takes as many pixels, one a warp; beyond, its warps share the rows of one."""


@triton.jit
def _place(n, frames, row, F: tl.constexpr, D: tl.constexpr, P: tl.constexpr):
    """Offsets and mask of this program's tile (P, F, D) where one position is ``row`` numbers from the next."""
    pixel = tl.program_id(1) * P + tl.arange(0, P)
    frame = tl.arange(0, F)
    position = (tl.program_id(2) * frames + frame[None, :, None]).to(tl.int64) * n + pixel[:, None, None]
    mask = (pixel < n)[:, None, None] & (frame < frames)[None, :, None]
    return position * row + tl.program_id(0) * D + tl.arange(0, D)[None, None, :], mask


@triton.jit
def _product(a, b):
    """``a @ b`` for every pixel (P, ., .); a single one as the plain product that warps can share."""
    if a.shape[0] == 1:
        first, second = tl.reshape(a, a.shape[1], a.shape[2]), tl.reshape(b, b.shape[1], b.shape[2])
        return tl.expand_dims(tl.dot(first, second, input_precision="ieee"), 0)
    else:
        return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _probabilities(q, k, frames, scale, F: tl.constexpr):
    """softmax over the real frames, float32 (P, F, F)."""
    scores = _product(q, tl.permute(k, (0, 2, 1))) * scale
    scores = tl.where((tl.arange(0, F) < frames)[None, None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 2)[:, :, None])
    return weights / tl.sum(weights, 2)[:, :, None]


@triton.jit
def _frame_attention(
    q_ptr, k_ptr, v_ptr, out_ptr, n, frames, heads, row, scale,
    F: tl.constexpr, D: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    place, mask = _place(n, frames, row, F, D, P)
    q = tl.load(q_ptr + place, mask=mask, other=0.0)
    k = tl.load(k_ptr + place, mask=mask, other=0.0)
    v = tl.load(v_ptr + place, mask=mask, other=0.0)
    p = _probabilities(q, k, frames, scale, F)
    out = _product(p.to(v.dtype), v)
    place, mask = _place(n, frames, heads * D, F, D, P)
    tl.store(out_ptr + place, out.to(v.dtype), mask=mask)


@triton.jit
def _frame_attention_backward(
    q_ptr, k_ptr, v_ptr, grad_ptr, dq_ptr, dk_ptr, dv_ptr, n, frames, row, scale,
    F: tl.constexpr, D: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    place, mask = _place(n, frames, row, F, D, P)
    q = tl.load(q_ptr + place, mask=mask, other=0.0)
    k = tl.load(k_ptr + place, mask=mask, other=0.0)
    v = tl.load(v_ptr + place, mask=mask, other=0.0)
    grad = tl.load(grad_ptr + place, mask=mask, other=0.0)
    p = _probabilities(q, k, frames, scale, F)
    dv = _product(tl.permute(p, (0, 2, 1)).to(v.dtype), grad)
    dp = _product(grad, tl.permute(v, (0, 2, 1)))
    ds = (p * (dp - tl.sum(dp * p, 2)[:, :, None]) * scale).to(v.dtype)
    dq = _product(ds, k)
    dk = _product(tl.permute(ds, (0, 2, 1)), q)
    tl.store(dq_ptr + place, dq.to(v.dtype), mask=mask)
    tl.store(dk_ptr + place, dk.to(v.dtype), mask=mask)
    tl.store(dv_ptr + place, dv.to(v.dtype), mask=mask)


def forward(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention along ``f`` of ``b f n (heads d)``; ``d`` a power of two from 16, ``f`` up to 64.

    Parts of one packed tensor are read where they lie.
    """
    q, k, v = _alike(q, k, v)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    grid, sizes = _grid(q, heads)
    _frame_attention[grid](q, k, v, out, q.shape[2], q.shape[1], heads, q.stride(2), **sizes)
    return out


def backward(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    q, k, v, grad = (x.contiguous() for x in (q, k, v, grad))
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    grid, sizes = _grid(q, heads)
    _frame_attention_backward[grid](q, k, v, grad, dq, dk, dv, q.shape[2], q.shape[1], q.stride(2), **sizes)
    return dq, dk, dv


def _alike(*parts: Tensor) -> tuple[Tensor, ...]:
    """The same numbers, lying alike: rows equally far apart along ``b f n``."""
    _, frames, n, _ = parts[0].shape
    row = parts[0].stride(2)
    if all(part.stride() == (frames * n * row, n * row, row, 1) for part in parts):
        return parts
    return tuple(part.contiguous() for part in parts)


def _grid(q: Tensor, heads: int) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """Grid and constants; the heads of a pixel lie next to each other, so their programs run together."""
    b, frames, n, width = q.shape
    d, padded = width // heads, max(16, triton.next_power_of_2(frames))
    pixels = WARPS if padded <= 32 else 1
    sizes = {"scale": d**-0.5, "F": padded, "D": d, "P": pixels, "num_warps": WARPS}
    return (heads, triton.cdiv(n, pixels), b), sizes


frame_attention_op = operation("frame_attention")(forward)


frame_attention_backward_op = operation("frame_attention_backward")(backward)


@frame_attention_op.faked
def _(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:  # noqa: ARG001 - the shape is q's
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


@frame_attention_backward_op.faked
def _(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    def like(x: Tensor) -> Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)

    return like(q), like(k), like(v)


def _keep(ctx: object, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:  # noqa: ARG001
    q, k, v, ctx.heads = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(q, k, v)  # type: ignore[attr-defined]


def _gradients(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    q, k, v = ctx.saved_tensors  # type: ignore[attr-defined]
    return (*frame_attention_backward_op.known(q, k, v, grad, ctx.heads), None)  # type: ignore[attr-defined]


frame_attention_op.known.register_autograd(_gradients, setup_context=_keep)
