"""Tensors in parts: where kernels serve, the norm that reads them first puts them together on the way.

A sum or two clips side by side are otherwise written by one pass and read again by the next.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from kinescribe.ops.convolution import Waiting, add
from kinescribe.ops.select import kernels_serve


class Parts:
    """A tensor that is still ``x`` and ``y``: their sum with two biases or, ``beside``, the channels of both.

    Of channels side by side ``y`` may have fewer clips than ``x``, each for several of these in turn. Parts are put
    together once, and let go: nobody who holds on to this holds on to their memory.
    """

    def __init__(
        self, x: Tensor, y: Tensor, waiting: Waiting = None, ahead: Waiting = None, *, beside: bool
    ) -> None:
        self._parts: tuple[Tensor, Tensor] | None = (x, y)
        self.waiting, self.ahead, self.beside = waiting, ahead, beside
        self.shape = torch.Size((len(x), x.shape[1] + beside * y.shape[1], *x.shape[2:]))

    def take(self) -> tuple[Tensor, Tensor]:
        """``x`` and ``y``, which it has no longer."""
        parts, self._parts = self.held(), None
        return parts

    def held(self) -> tuple[Tensor, Tensor]:
        """``x`` and ``y``."""
        if self._parts is None:
            raise RuntimeError("these parts have been put together already")
        return self._parts

    def viewed(self, view: Callable[[Tensor], Tensor]) -> "Parts":
        """The same in another view, which has to keep the channels at axis 1; this has its parts no longer."""
        x, y = map(view, self.take())
        return Parts(x, y, self.waiting, self.ahead, beside=self.beside)

    def whole(self) -> Tensor:
        """Put together, channels-last."""
        x, y = self.take()
        if self.beside:
            return joined(x, y)
        # of clips the same memory as tall pictures
        total = add(x.flatten(2, -2), y.flatten(2, -2), self.waiting, self.ahead)
        return total.view(x.shape)


Stream = Tensor | Parts


def whole(stream: Stream) -> Tensor:
    """Put together, if it is in parts."""
    return stream.whole() if isinstance(stream, Parts) else stream


def first(stream: Stream) -> Tensor:
    """A tensor of its device and number format."""
    return stream.held()[0] if isinstance(stream, Parts) else stream


def viewed(stream: Stream, view: Callable[[Tensor], Tensor]) -> Stream:
    """Another view of it, which keeps the channels at axis 1; what was in parts is in those of the result alone."""
    return stream.viewed(view) if isinstance(stream, Parts) else view(stream)


def summed(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"], waiting: Waiting, ahead: Waiting = None
) -> Stream:
    """:func:`~kinescribe.ops.convolution.add`; in parts where kernels serve."""
    if waiting is not None and _in_parts(x, y, waiting, ahead):
        return Parts(x, y, waiting, ahead, beside=False)
    return add(x, y, waiting, ahead)


def side_by_side(x: Float[Tensor, "b c *sizes"], y: Float[Tensor, "s k *sizes"]) -> Stream:
    """:func:`joined`; in parts where kernels serve."""
    return Parts(x, y, beside=True) if _in_parts(x, y) else joined(x, y)


def joined(x: Float[Tensor, "b c *sizes"], y: Float[Tensor, "s k *sizes"]) -> Float[Tensor, "b ck *sizes"]:
    """The channels of both, channels-last; ``y`` as often behind itself as makes a batch of ``b``.

    Pixel by pixel, for which a GPU's library has a fast kernel.
    """
    rows, others = (part.movedim(1, -1).flatten(0, -2) for part in (x, y))
    if len(others) < len(rows):
        others = others.repeat(len(rows) // len(others), 1)
    return torch.cat([rows, others], 1).view(len(x), *x.shape[2:], -1).movedim(-1, 1)


def _in_parts(x: Tensor, *others: Tensor | None) -> bool:
    # compiled code has its own way to do things on the way
    return not torch.compiler.is_compiling() and kernels_serve(x, *others)
