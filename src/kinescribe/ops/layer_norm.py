"""Layer normalisation, alone and of a sum that is needed too."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.linear_fp8 import Rows8, copy_of, rows8
from kinescribe.ops.select import eight_bits_serve, kernels_serve


def layer_norm_reference(
    x: Float[Tensor, "*rows d"], weight: Float[Tensor, " d"], bias: Float[Tensor, " d"], eps: float
) -> Float[Tensor, "*rows d"]:
    """Zero mean and unit variance in each row, then scale and shift."""
    variance, mean = x.var(-1, keepdim=True, correction=0), x.mean(-1, keepdim=True)
    return (x - mean) * (variance + eps).rsqrt() * weight + bias


def layer_norm(
    x: Float[Tensor, "*rows d"], weight: Float[Tensor, " d"], bias: Float[Tensor, " d"], eps: float
) -> Float[Tensor, "*rows d"]:
    """:func:`layer_norm_reference`, in the version that suits the device."""
    if kernels_serve(x, weight, bias):
        from kinescribe.ops.layer_norm_triton import layer_norm_op

        return layer_norm_op(x, weight, bias, eps)
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def add_layer_norm(
    x: Float[Tensor, "*rows d"],
    y: Float[Tensor, "*rows d"],
    weight: Float[Tensor, " d"],
    bias: Float[Tensor, " d"],
    eps: float,
    *,
    waiting: Float[Tensor, " d"] | None = None,
    ahead: Float[Tensor, " d"] | None = None,
    into: Float[Tensor, "*rows d"] | None = None,
) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows d"]]:
    """``x + y + waiting + ahead``, and its :func:`layer_norm`, without ``ahead``; the sum is read once less.

    For inference the sum can be written ``into`` a part of wider rows.
    """
    if kernels_serve(x, y, weight, bias, waiting, ahead):
        from kinescribe.ops import layer_norm_triton

        if into is not None:
            with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
                return layer_norm_triton.forward(x, y, weight, bias, eps, waiting, ahead, into)
        return layer_norm_triton.add_layer_norm_op(x, y, weight, bias, eps, waiting, ahead)
    total = x + y if waiting is None else x + (y + waiting)
    normed = layer_norm(total, weight, bias, eps)
    total = total if ahead is None else total + ahead
    return total if into is None else into.copy_(total), normed


def layer_norm_rows8(
    x: Float[Tensor, "*rows d"], weight: Float[Tensor, " d"], bias: Float[Tensor, " d"], eps: float
) -> Rows8:
    """:func:`layer_norm` in 8 bits, of which on a GPU no others are ever written."""
    if kernels_serve(x, weight, bias) and eight_bits_serve(x):
        from kinescribe.ops.layer_norm_triton import layer_norm_rows8_op

        return Rows8(*layer_norm_rows8_op(x, weight, bias, eps), x.dtype)
    return rows8(layer_norm(x, weight, bias, eps))


def add_layer_norm_rows8(
    x: Float[Tensor, "*rows d"],
    y: Float[Tensor, "*rows d"],
    weight: Float[Tensor, " d"],
    bias: Float[Tensor, " d"],
    eps: float,
    *,
    waiting: Float[Tensor, " d"] | None = None,
    ahead: Float[Tensor, " d"] | None = None,
    into: Float[Tensor, "*rows d"] | None = None,
) -> tuple[Float[Tensor, "*rows d"], Rows8]:
    """:func:`add_layer_norm`, of which the norm is in 8 bits."""
    if kernels_serve(x, y, weight, bias, waiting, ahead) and eight_bits_serve(x):
        from kinescribe.ops import layer_norm_triton

        if into is None:
            made = layer_norm_triton.add_layer_norm_rows8_op(x, y, weight, bias, eps, waiting, ahead)
        else:
            with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
                made = layer_norm_triton.forward_rows8(x, y, weight, bias, eps, waiting, ahead, into)
        total, numbers, scales = made
        return total, Rows8(numbers, scales, x.dtype)
    total, normed = add_layer_norm(x, y, weight, bias, eps, waiting=waiting, ahead=ahead, into=into)
    return total, rows8(normed)


class LayerNorm(nn.LayerNorm):
    """The library's layer over one axis, with the parameters under the same names, through :func:`layer_norm`."""

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Same shape."""
        return layer_norm(x, self.weight, self.bias, self.eps)

    def before(self, reader: Tensor, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"] | Rows8:
        """The norm for the linear layer of this weight: in 8 bits if that has a copy."""
        if copy_of(reader) is not None:
            return layer_norm_rows8(x, self.weight, self.bias, self.eps)
        normed: Tensor = self(x)
        return normed

    def added(
        self,
        x: Float[Tensor, "*rows d"],
        branch: tuple[Float[Tensor, "*rows d"], Float[Tensor, " d"] | None],
        ahead: Float[Tensor, " d"] | None = None,
        into: Float[Tensor, "*rows d"] | None = None,
        *,
        before: Tensor | None = None,
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows d"] | Rows8]:
        """:func:`add_layer_norm` of ``x`` and a branch, of which a bias may be waiting; the norm as :meth:`before`."""
        norm = add_layer_norm if before is None or copy_of(before) is None else add_layer_norm_rows8
        y, waiting = branch
        return norm(x, y, self.weight, self.bias, self.eps, waiting=waiting, ahead=ahead, into=into)
