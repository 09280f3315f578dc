"""A sum of two pictures and a bias for each channel in one pass, as a Triton kernel for inference."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kinescribe.ops.operation import operation

BLOCK = 2048
"""Numbers of a program: eight for each of its threads, which are one load."""


@triton.jit
def _add_biased(
    x_ptr, y_ptr, bias_ptr, ahead_ptr, out_ptr, count, channels, AHEAD: tl.constexpr, BLOCK: tl.constexpr
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    total = tl.load(x_ptr + place, mask=mask).to(tl.float32) + tl.load(y_ptr + place, mask=mask).to(
        tl.float32
    )
    total += tl.load(bias_ptr + place % channels, mask=mask).to(tl.float32)
    if AHEAD:
        total += tl.load(ahead_ptr + place % channels, mask=mask).to(tl.float32)
    tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=mask)


def add_biased(x: Tensor, y: Tensor, bias: Tensor, ahead: Tensor | None = None) -> Tensor:
    """``x + y + bias + ahead`` of ``n c h w``, ``n c h w`` and twice ``1 c``; channels-last."""
    x, y = (part.contiguous(memory_format=torch.channels_last) for part in (x, y))
    out = torch.empty_like(x)
    count = x.numel()
    _add_biased[(triton.cdiv(count, BLOCK),)](
        x, y, bias, bias if ahead is None else ahead, out, count, x.shape[1], AHEAD=ahead is not None, BLOCK=BLOCK,
        num_warps=8,
    )  # fmt: skip
    return out


add_biased_op = operation("add_biased")(add_biased)


@add_biased_op.faked
def _(x, y, bias, ahead=None):  # noqa: ARG001 - the shape is that of x
    return torch.empty_like(x, memory_format=torch.channels_last)
