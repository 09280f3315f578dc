"""Linear layers that read the same input, as one matrix product where their weights lie behind each other."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.linear_fp8 import Rows8, packed_fp8, restored


def together(
    x: Tensor | Rows8, layers: Sequence[nn.Linear], more: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """What each of ``layers`` makes of ``x``: ``layer(x)`` for all, views of one result after :func:`lay_together`.

    ``more`` has a vector for each layer to add to it, which adds to the biases at once if it lies in memory as they do.
    With gradients, and in code that is compiled, each layer runs for itself.
    """
    made = packed_fp8(x, layers)
    if made is None:
        x = restored(x)
        weight = behind_each_other([layer.weight for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        bias = behind_each_other(biases) if biases else None
        if weight is None or (biases and (bias is None or len(biases) < len(layers))):
            made = tuple(layer(x) for layer in layers)
        else:
            extra = behind_each_other(more) if more is not None and bias is not None else None
            if bias is not None and extra is not None:
                bias, more = bias + extra, None
            made = torch.split(F.linear(x, weight, bias), [layer.out_features for layer in layers], -1)
    if more is None:
        return made
    return tuple(one + vector.to(one.dtype) for one, vector in zip(made, more, strict=True))


def lay_together(layers: Sequence[nn.Linear]) -> None:
    """Put the weights of ``layers`` behind each other in memory; each stays a parameter of its own, with its value.

    A later ``to`` of another device or dtype moves them apart again, after which each layer runs for itself.
    """
    lay_behind([layer.weight for layer in layers])
    lay_behind([layer.bias for layer in layers if layer.bias is not None])


def lay_behind(parts: Sequence[Tensor]) -> None:
    """Put ``parts`` behind each other in memory, along their first axis, as :func:`behind_each_other` wants them."""
    if parts:
        whole = torch.cat([part.detach() for part in parts])
        for part, view in zip(parts, torch.split(whole, [len(part) for part in parts]), strict=True):
            part.data = view


def behind_each_other(parts: Sequence[Tensor]) -> Tensor | None:
    """A view of ``parts`` as one tensor, joined along the first axis; None unless they lie so in memory."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or parts[0].device.type == "meta":
        return None
    first = parts[0]
    if not all(part.is_contiguous() and part.dtype == first.dtype for part in parts):
        return None
    for left, right in pairwise(parts):
        end = left.data_ptr() + left.numel() * left.element_size()
        # weights of two storages may touch by chance, which makes them no single tensor
        if (
            right.data_ptr() != end
            or right.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
        ):
            return None
    rows = sum(len(part) for part in parts)
    return first.as_strided((rows, *first.shape[1:]), first.stride())
