"""Linear layers with 8-bit floating-point factors (e4m3), scaled row by row; sums are made in float32.

Of ``x @ weight'`` each row of ``x`` is scaled by its own largest number, at best where it is made, see
``ops.layer_norm``, and each row of ``weight``, an output channel, once beforehand. Products of rows so scaled are exact
in the scales: these leave the sum.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from kinescribe.ops.select import eight_bits_serve

LARGEST = 448.0
"""The largest number of e4m3."""
LEAST = 1e-12
"""A row of smaller numbers counts as one of this size, so that nothing is divided by zero."""
GRAIN = 16
"""The product unit takes whole multiples of so many rows of the weight, and of so many numbers in each."""


@dataclass(frozen=True, eq=False)
class Rows8:
    """Rows in 8 bits, as a linear layer reads them: ``numbers * scales`` is about what they stand for in ``dtype``."""

    numbers: Shaped[Tensor, "*rows k"]
    scales: Float32[Tensor, "*rows 1"]
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Copy:
    """A weight in 8 bits: ``numbers * scales`` is about the weight; ``zeros`` stands for a bias that there is not."""

    numbers: Tensor
    scales: Float32[Tensor, "n 1"]
    zeros: Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class KernelCopy:
    """The kernel of a convolution in 8 bits, see ``ops.normed_convolution``, with one scale for all; a linear layer
    behind a group norm counts as one of one pixel.

    ``norm_scale`` is that of the numbers it multiplies, and ``scale`` that of their products, for kernels to read.
    """

    taps: Shaped[Tensor, "o y x c"]
    kernel_scale: Float32[Tensor, ""]
    norm_scale: Float32[Tensor, ""]
    scale: Float32[Tensor, ""]


@dataclass(frozen=True, eq=False)
class EndCopy:
    """The last two layers of a transformer as one in 8 bits, see ``ops.ending``: ``numbers * scale`` is about what
    multiplies gated numbers, each times one of ``factors``.
    """

    numbers: Shaped[Tensor, "c d4"]
    factors: Float32[Tensor, " d4"]
    scale: Float32[Tensor, ""]


AnyCopy = Copy | KernelCopy | EndCopy


@dataclass(frozen=True, eq=False)
class Copies:
    """Copies by the weight that they stand for, or by the first of several that are in one copy."""

    of: Mapping[Tensor, AnyCopy]


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
    """What is used here and now instead of a linear layer's ``weight``, if anything."""
    copies = copies_here()
    found = None if copies is None else copies.of.get(weight)
    return found if isinstance(found, Copy) else None


def kernel_copy_of(kernel: Tensor) -> KernelCopy | None:
    """What is used here and now instead of a convolution's ``kernel``, if anything."""
    copies = copies_here()
    found = None if copies is None else copies.of.get(kernel)
    return found if isinstance(found, KernelCopy) else None


def end_copy_of(out: Tensor) -> EndCopy | None:
    """What is used here and now instead of the end of a transformer whose last weight is ``out``, if anything."""
    copies = copies_here()
    found = None if copies is None else copies.of.get(out)
    return found if isinstance(found, EndCopy) else None


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
    own = wide.abs().amax(-1, keepdim=True).clamp(min=LEAST)
    most = torch.full_like(own, LARGEST)  # by a number, a GPU's library multiplies with its reciprocal
    return (wide * (most / own)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), own / most


def quantise_rows(x: Float[Tensor, "m k"]) -> tuple[Tensor, Float32[Tensor, "m 1"]]:
    """:func:`quantise_rows_reference` in one pass over memory."""
    if eight_bits_serve(x):
        from kinescribe.ops.linear_fp8_triton import quantise_rows_op

        return quantise_rows_op(x)
    return quantise_rows_reference(x)


def rows8(x: Float[Tensor, "*rows k"] | Rows8) -> Rows8:
    """Rows in 8 bits, those of a tensor by :func:`quantise_rows`."""
    if isinstance(x, Rows8):
        return x
    numbers, scales = quantise_rows(x.reshape(-1, x.shape[-1]))
    return Rows8(numbers.view(x.shape), scales.view(*x.shape[:-1], 1), x.dtype)


def restored(x: Float[Tensor, "*rows k"] | Rows8) -> Float[Tensor, "*rows k"]:
    """What rows in 8 bits stand for, for layers without a copy; a tensor as it is."""
    return (x.numbers.float() * x.scales).to(x.dtype) if isinstance(x, Rows8) else x


def rearranged(change: Callable[[Tensor], Tensor], x: Tensor | Rows8) -> Tensor | Rows8:
    """``change(x)`` for a change of the axes before the last, also of rows in 8 bits."""
    return Rows8(change(x.numbers), change(x.scales), x.dtype) if isinstance(x, Rows8) else change(x)


def linear_fp8(
    x: Float[Tensor, "*rows k"] | Rows8, copy: Copy, bias: Float[Tensor, " n"] | None
) -> Float[Tensor, "*rows n"]:
    """The linear layer of a copy, in the dtype of ``x``.

    Where there is no unit for such products the same 8-bit numbers are multiplied in float32.
    """
    rows = rows8(x)
    shape, (n, k) = rows.numbers.shape, copy.numbers.shape
    numbers, scales = rows.numbers.reshape(-1, k), rows.scales.reshape(-1, 1)
    bias = copy.zeros if bias is None else bias
    if eight_bits_serve(copy.zeros):
        # with a bias always: without one, some versions of the library write another dtype than asked for
        out = torch._scaled_mm(
            numbers,
            copy.numbers.t(),
            scales,
            copy.scales.t(),
            bias,
            out_dtype=rows.dtype,
            use_fast_accum=True,
        )
    else:
        product = (numbers.float() @ copy.numbers.float().t()) * scales * copy.scales.t()
        out = (product + bias).to(rows.dtype)
    return out.reshape(*shape[:-1], n)


def packed_fp8(x: Float[Tensor, "*rows k"] | Rows8, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...] | None:
    """What each of ``layers`` makes of ``x``, of the one copy that they have together; None if they have none."""
    copy = copy_of(layers[0].weight)
    sizes = [layer.out_features for layer in layers]
    if copy is None or len(copy.numbers) != sum(sizes):
        return None
    return torch.split(linear_fp8(x, copy, None), sizes, -1)
