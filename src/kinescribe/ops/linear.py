"""Linear layers with what follows them: a gate of the exact GELU, or the stream they are added to."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.linear_fp8 import Copy, Rows8, copy_of, linear_fp8, restored, rows8
from kinescribe.ops.select import kernels_serve, products_serve
from kinescribe.ops.tiles import linear_tile, linear_tile_fp8

Unbiased = tuple[Float[Tensor, "*rows d"], Float[Tensor, " d"] | None]
"""What is to be added to a stream, and a bias that is still missing from it, or None."""


def geglu_reference(x: Float[Tensor, "*rows n2"]) -> Float[Tensor, "*rows n"]:
    """The first half of the last axis times the GELU of the second (Shazeer 2020, arXiv 2002.05202)."""
    value, gate = x.chunk(2, -1)
    return value * F.gelu(gate)


def geglu(
    x: Float[Tensor, "*rows n2"], out: Float[Tensor, "*rows n"] | None = None
) -> Float[Tensor, "*rows n"]:
    """:func:`geglu_reference` in one pass over memory; for inference to ``out``, which may be a part of wider rows."""
    if not kernels_serve(x):
        made = geglu_reference(x)
        return made if out is None else out.copy_(made)
    from kinescribe.ops import linear_triton

    return linear_triton.geglu_op(x) if out is None else linear_triton.geglu_into(out, x)


def linear_geglu(
    x: Float[Tensor, "*rows k"] | Rows8,
    weight: Float[Tensor, "n2 k"],
    bias: Float[Tensor, " n2"],
    out: Float[Tensor, "*rows n"] | None = None,
) -> Float[Tensor, "*rows n"]:
    """:func:`geglu` of the linear layer, to ``out`` as there.

    Where one kernel is the faster way, its wide result is never written.
    """
    copy = copy_of(weight)
    if copy is not None:
        return _linear_geglu_fp8(rows8(x), copy, bias, out)
    x = restored(x)
    if products_serve(x, weight, bias) and linear_tile(_rows(x), len(weight), x.shape[-1], gated=True):
        from kinescribe.ops import linear_triton

        if out is None:
            return linear_triton.linear_geglu_op(x, weight, bias)
        return linear_triton.linear_geglu_into(out, x, weight, bias)
    if x.device.type == "cpu" and out is None:  # whose GELU is slow where rows have gaps between them
        half = len(weight) // 2
        return F.linear(x, weight[:half], bias[:half]) * F.gelu(F.linear(x, weight[half:], bias[half:]))
    return geglu(F.linear(x, weight, bias), out)


def _linear_geglu_fp8(
    x: Rows8, copy: Copy, bias: Float[Tensor, " n2"], out: Float[Tensor, "*rows n"] | None
) -> Float[Tensor, "*rows n"]:
    """:func:`linear_geglu` of a copy."""
    numbers = x.numbers.reshape(-1, x.numbers.shape[-1])
    if not (products_serve(bias, copy.zeros) and linear_tile_fp8(len(numbers), *copy.numbers.shape)):
        return geglu(linear_fp8(x, copy, bias), out)
    from kinescribe.ops.linear_fp8_triton import linear_gated_fp8

    if out is None:
        out = bias.new_empty((*x.numbers.shape[:-1], len(bias) // 2))
    flat = out.view(-1, out.shape[-1])
    linear_gated_fp8(numbers, x.scales.reshape(-1, 1), copy.numbers, copy.scales, bias, flat)
    return out


def linear_add(
    x: Float[Tensor, "*rows k"],
    weight: Float[Tensor, "n k"],
    bias: Float[Tensor, " n"],
    residual: Float[Tensor, "*rows n"],
) -> Float[Tensor, "*rows n"]:
    """``residual`` plus the linear layer; where one kernel is the faster way, added before anything is written."""
    if products_serve(x, weight, bias, residual) and linear_tile(
        _rows(x), len(weight), x.shape[-1], gated=False
    ):
        from kinescribe.ops.linear_triton import linear_add_op

        return linear_add_op(x, weight, bias, residual)
    return residual + F.linear(x, weight, bias)


def leaves_bias(x: Tensor, layer: nn.Linear) -> bool:
    """Whether the product of rows like ``x`` is faster without the layer's bias, which a kernel adds elsewhere."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return kernels_serve(x, layer.weight, layer.bias)


def linear_onto(
    stream: Float[Tensor, "*rows n"], x: Float[Tensor, "*rows k"], weight: Float[Tensor, "n k"]
) -> Float[Tensor, "*rows n"]:
    """``stream`` plus the product, in the memory of ``stream``: the library's product begins with what is there."""
    stream.view(-1, stream.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), weight.T)
    return stream


class Linear(nn.Linear):
    """The library's layer, in 8 bits where that is asked for."""

    def forward(self, x: Float[Tensor, "*rows k"] | Rows8) -> Float[Tensor, "*rows n"]:
        """The layer of every row."""
        copy = copy_of(self.weight)
        return super().forward(restored(x)) if copy is None else linear_fp8(x, copy, self.bias)

    def leaving_bias(self, x: Float[Tensor, "*rows k"]) -> Unbiased:
        """The layer, from which on a GPU the bias may be left out and come beside it."""
        return (F.linear(x, self.weight), self.bias) if leaves_bias(x, self) else (self(x), None)


def _rows(x: Tensor) -> int:
    return x.numel() // x.shape[-1]
