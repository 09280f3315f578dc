"""Linear layers of what a group norm makes: the norm writes what the layer reads, in 8 bits if that has a copy.

As in ``ops.normed_convolution`` all numbers of the norm have one scale, and so has the weight.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import kernel_copy_of
from kinescribe.ops.normed_convolution import quantise
from kinescribe.ops.parts import Parts, first
from kinescribe.ops.select import eight_bits_serve


def norm_before(
    layer: nn.Linear, norm: GroupNorm, x: Float[Tensor, "b c h w"] | Parts, shift: Float[Tensor, "a c"] | None
) -> tuple[Float[Tensor, "b c h w"], Shaped[Tensor, "b h w c"]]:
    """The whole of ``x``, and its norm with ``shift`` as :func:`linear_behind` reads it."""
    copy = kernel_copy_of(layer.weight)
    if copy is not None and eight_bits_serve(first(x)):
        x, rows = norm.reading(x, shift, scale=copy.norm_scale)
    else:
        x, rows = norm.reading(x, shift)
        rows = rows if copy is None else quantise(rows, copy.norm_scale)
    return x, rows.permute(0, 2, 3, 1)


def linear_behind(
    layer: nn.Linear, rows: Shaped[Tensor, "*rows c"], dtype: torch.dtype
) -> Float[Tensor, "*rows o"]:
    """The layer of rows of :func:`norm_before`, in the ``dtype`` of what was normalised.

    Where there is no unit for such products the same 8-bit numbers are multiplied in float32.
    """
    copy = kernel_copy_of(layer.weight)
    if copy is None:
        made: Tensor = layer(rows)
        return made
    flat, numbers = rows.reshape(-1, rows.shape[-1]), copy.taps.flatten(1)
    if eight_bits_serve(layer.bias):
        scales = copy.norm_scale, copy.kernel_scale
        out = torch._scaled_mm(flat, numbers.t(), *scales, layer.bias, out_dtype=dtype, use_fast_accum=True)
    else:
        out = (flat.float() @ numbers.float().t() * copy.scale + layer.bias).to(dtype)
    return out.view(*rows.shape[:-1], -1)
