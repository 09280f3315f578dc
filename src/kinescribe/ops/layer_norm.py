"""Layer normalisation, alone and of a sum that is needed too."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.linear import Unbiased
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
    eight_bits: bool = False,
) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows d"] | Rows8]:
    """``x + y + waiting + ahead``, and its :func:`layer_norm`, without ``ahead``; the sum is read once less.

    For inference the sum can be written ``into`` a part of wider rows, and the norm be in ``eight_bits``.
    """
    given = (x, y, weight, bias, eps, waiting, ahead)
    if kernels_serve(x, y, weight, bias, waiting, ahead):
        from kinescribe.ops import layer_norm_triton

        if eight_bits and eight_bits_serve(x):
            total, numbers, scales = layer_norm_triton.forward_rows8(*given, into)
            return total, Rows8(numbers, scales, x.dtype)
        if into is None:
            total, normed = layer_norm_triton.add_layer_norm_op(*given)
        else:
            total, normed = layer_norm_triton.forward(*given, into)
    else:
        total = x + y if waiting is None else x + (y + waiting)
        normed = layer_norm(total, weight, bias, eps)
        total = total if ahead is None else total + ahead
        total = total if into is None else into.copy_(total)
    return total, rows8(normed) if eight_bits else normed


def layer_norm_rows8(
    x: Float[Tensor, "*rows d"], weight: Float[Tensor, " d"], bias: Float[Tensor, " d"], eps: float
) -> Rows8:
    """:func:`layer_norm` in 8 bits, of which on a GPU no others are ever written."""
    if not (kernels_serve(x, weight, bias) and eight_bits_serve(x)):
        return rows8(layer_norm(x, weight, bias, eps))
    from kinescribe.ops.layer_norm_triton import forward_rows8

    _, numbers, scales = forward_rows8(x, None, weight, bias, eps)
    return Rows8(numbers, scales, x.dtype)


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
        branch: Unbiased,
        ahead: Float[Tensor, " d"] | None = None,
        into: Float[Tensor, "*rows d"] | None = None,
        *,
        before: Tensor | None = None,
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows d"] | Rows8]:
        """:func:`add_layer_norm` of ``x`` and a branch, of which a bias may be waiting; the norm as :meth:`before`."""
        y, waiting = branch
        eight_bits = before is not None and copy_of(before) is not None
        return add_layer_norm(
            x, y, self.weight, self.bias, self.eps, waiting=waiting, ahead=ahead, into=into, eight_bits=eight_bits
        )  # fmt: skip
