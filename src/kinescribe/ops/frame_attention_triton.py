"""Attention over the few frames of every pixel, as Triton kernels that read ``b f n (heads d)`` in place.

Library kernels want the frames next to each other and tile 64 to 128 rows: for 16 frames that means copies of
q, k, v and the result, and tiles that are mostly empty. Here one program takes several pixels of one head, all
frames at once; the backward pass computes the probabilities again instead of storing them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 4
"""Pixels a program works on together."""
MOST_FRAMES = 64


@triton.jit
def _place(n, frames, heads, F: tl.constexpr, D: tl.constexpr, P: tl.constexpr):
    """Offsets and mask of this program's tile (P, F, D)."""
    row = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    frame = tl.arange(0, F)
    width = heads * D
    place = row // heads * frames * n * width + row % heads * D
    place += frame[None, :, None].to(tl.int64) * n * width + pixel[:, None, None] * width
    mask = (pixel < n)[:, None, None] & (frame < frames)[None, :, None]
    return place + tl.arange(0, D)[None, None, :], mask


@triton.jit
def _probabilities(q, k, frames, scale, F: tl.constexpr):
    """softmax over the real frames, float32 (P, F, F)."""
    scores = tl.dot(q, tl.permute(k, (0, 2, 1)), input_precision="ieee") * scale
    scores = tl.where((tl.arange(0, F) < frames)[None, None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 2)[:, :, None])
    return weights / tl.sum(weights, 2)[:, :, None]


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, out_ptr, n, frames, heads, scale, F: tl.constexpr, D: tl.constexpr, P: tl.constexpr
):
    place, mask = _place(n, frames, heads, F, D, P)
    q = tl.load(q_ptr + place, mask=mask, other=0.0)
    k = tl.load(k_ptr + place, mask=mask, other=0.0)
    v = tl.load(v_ptr + place, mask=mask, other=0.0)
    p = _probabilities(q, k, frames, scale, F)
    out = tl.dot(p.to(v.dtype), v, input_precision="ieee")
    tl.store(out_ptr + place, out.to(v.dtype), mask=mask)


@triton.jit
def _backward(
    q_ptr, k_ptr, v_ptr, grad_ptr, dq_ptr, dk_ptr, dv_ptr, n, frames, heads, scale,
    F: tl.constexpr, D: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    place, mask = _place(n, frames, heads, F, D, P)
    q = tl.load(q_ptr + place, mask=mask, other=0.0)
    k = tl.load(k_ptr + place, mask=mask, other=0.0)
    v = tl.load(v_ptr + place, mask=mask, other=0.0)
    grad = tl.load(grad_ptr + place, mask=mask, other=0.0)
    p = _probabilities(q, k, frames, scale, F)
    dv = tl.dot(tl.permute(p, (0, 2, 1)).to(v.dtype), grad, input_precision="ieee")
    dp = tl.dot(grad, tl.permute(v, (0, 2, 1)), input_precision="ieee")
    ds = (p * (dp - tl.sum(dp * p, 2)[:, :, None]) * scale).to(v.dtype)
    dq = tl.dot(ds, k, input_precision="ieee")
    dk = tl.dot(tl.permute(ds, (0, 2, 1)), q, input_precision="ieee")
    tl.store(dq_ptr + place, dq.to(v.dtype), mask=mask)
    tl.store(dk_ptr + place, dk.to(v.dtype), mask=mask)
    tl.store(dv_ptr + place, dv.to(v.dtype), mask=mask)


def forward(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention along ``f`` of contiguous ``b f n (heads d)``; ``d`` a power of two from 16, ``f`` up to 64."""
    out = torch.empty_like(q)
    _launch(_forward, (q, k, v, out), heads)
    return out


def backward(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    _launch(_backward, (q, k, v, grad, dq, dk, dv), heads)
    return dq, dk, dv


def _launch(kernel: triton.JITFunction, tensors: tuple[Tensor, ...], heads: int) -> None:
    b, frames, n, width = tensors[0].shape
    d = width // heads
    grid = (triton.cdiv(n, PIXELS), b * heads)
    kernel[grid](
        *tensors, n, frames, heads, d**-0.5,
        F=max(16, triton.next_power_of_2(frames)), D=d, P=PIXELS, num_warps=4,
    )  # fmt: skip


@torch.library.custom_op("kinescribe::frame_attention", mutates_args=(), device_types="cuda")
def frame_attention_op(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """:func:`forward` as an operation that compilers and autograd know."""
    return forward(q.contiguous(), k.contiguous(), v.contiguous(), heads)


@torch.library.custom_op("kinescribe::frame_attention_backward", mutates_args=(), device_types="cuda")
def frame_attention_backward_op(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`backward` as an operation."""
    return backward(q.contiguous(), k.contiguous(), v.contiguous(), grad.contiguous(), heads)


@frame_attention_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:  # noqa: ARG001 - the shape is q's
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


@frame_attention_backward_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    def like(x: Tensor) -> Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)

    return like(q), like(k), like(v)


def _keep(ctx: object, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:  # noqa: ARG001
    q, k, v, ctx.heads = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(q, k, v)  # type: ignore[attr-defined]


def _gradients(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    q, k, v = ctx.saved_tensors  # type: ignore[attr-defined]
    return (*frame_attention_backward_op(q, k, v, grad, ctx.heads), None)  # type: ignore[attr-defined]


frame_attention_op.register_autograd(_gradients, setup_context=_keep)
