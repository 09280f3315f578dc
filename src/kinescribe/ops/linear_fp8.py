"""Linear layers with 8-bit floating-point factors (e4m3), scaled row by row; sums are made in float32.

Of ``x @ weight'`` each row of ``x`` is scaled by its own largest number when it comes, and each row of ``weight``, an
output channel, once beforehand. Products of rows so scaled are exact in the scales: these leave the sum.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from kinescribe.ops.select import eight_bits_serve

LARGEST = 448.0
"""The largest number of e4m3."""
LEAST = 1e-12
"""A row of smaller numbers counts as one of this size, so that nothing is divided by zero."""
GRAIN = 16
"""The product unit takes whole multiples of so many rows of the weight, and of so many numbers in each."""


@dataclass(frozen=True, eq=False)
class Copy:
    """A weight in 8 bits: ``numbers * scales`` is about the weight; ``zeros`` stands for a bias that there is not."""

    numbers: Tensor
    scales: Float32[Tensor, "n 1"]
    zeros: Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Copies:
    """Copies by the weight that they stand for, or by the first of several that lie behind each other in one copy."""

    of: Mapping[Tensor, Copy]


_HERE: ContextVar[Copies | None] = ContextVar("copies", default=None)


@contextmanager
def in_eight_bits(copies: Copies) -> Iterator[None]:
    """Linear layers that have a copy use it, in this thread while the block runs. Not to be held across a ``yield``."""
    token = _HERE.set(copies)
    try:
        yield
    finally:
        _HERE.reset(token)


def copies_here() -> Copies | None:
    """The copies that linear layers use here and now."""
    return None if torch.compiler.is_compiling() else _HERE.get()


def copy_of(weight: Tensor) -> Copy | None:
    """What is used here and now instead of ``weight``, if anything."""
    copies = copies_here()
    return None if copies is None else copies.of.get(weight)


def copied(weights: Sequence[Tensor]) -> Copy:
    """The weights, one behind the other, in 8 bits."""
    whole = weights[0].detach() if len(weights) == 1 else torch.cat([weight.detach() for weight in weights])
    numbers, scales = quantise_rows(whole)
    return Copy(numbers, scales, whole.new_zeros(len(whole)))


def copies_fit(weight: Tensor) -> bool:
    """Whether the product unit takes a weight of these sizes."""
    return weight.shape[0] % GRAIN == 0 and weight.shape[1] % GRAIN == 0


def quantise_rows_reference(x: Float[Tensor, "m k"]) -> tuple[Tensor, Float32[Tensor, "m 1"]]:
    """Numbers in e4m3, to the nearest, and the scale of each row that makes its largest number 448."""
    wide = x.float()
    largest = wide.abs().amax(-1, keepdim=True).clamp(min=LEAST)
    scales = largest / torch.full_like(
        largest, LARGEST
    )  # by a number, a GPU's library multiplies with its reciprocal
    return (wide / scales).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scales


def quantise_rows(x: Float[Tensor, "m k"]) -> tuple[Tensor, Float32[Tensor, "m 1"]]:
    """:func:`quantise_rows_reference` in one pass over memory."""
    if eight_bits_serve(x):
        from kinescribe.ops.linear_fp8_triton import quantise_rows_op

        return quantise_rows_op(x)
    return quantise_rows_reference(x)


def linear_fp8(
    x: Float[Tensor, "*rows k"], copy: Copy, bias: Float[Tensor, " n"] | None
) -> Float[Tensor, "*rows n"]:
    """The linear layer of a copy, in the dtype of ``x``.

    Where there is no unit for such products the same 8-bit numbers are multiplied in float32.
    """
    numbers, scales = quantise_rows(x.reshape(-1, x.shape[-1]))
    bias = copy.zeros if bias is None else bias
    if eight_bits_serve(x):
        # with a bias always: without one, some versions of the library write another dtype than asked for
        out = torch._scaled_mm(
            numbers, copy.numbers.t(), scales, copy.scales.t(), bias, out_dtype=x.dtype, use_fast_accum=True
        )
    else:
        product = (numbers.float() @ copy.numbers.float().t()) * scales * copy.scales.t()
        out = (product + bias).to(x.dtype)
    return out.reshape(*x.shape[:-1], out.shape[-1])


def packed_fp8(x: Float[Tensor, "*rows k"], layers: Sequence[nn.Linear]) -> tuple[Tensor, ...] | None:
    """What each of ``layers`` makes of ``x``, of the one copy that they have together; None if they have none."""
    copy = copy_of(layers[0].weight)
    sizes = [layer.out_features for layer in layers]
    if copy is None or len(copy.numbers) != sum(sizes):
        return None
    return torch.split(linear_fp8(x, copy, None), sizes, -1)
