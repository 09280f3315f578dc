"""What a UNet is told besides the noisy clip: the seams through which a variant enters the one trunk."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

SkipFilter = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""The fifth seam: ``(block, x, skip) -> (x, skip)`` before a decoder block joins the two, each ``b c f h w``.

``block`` counts the blocks of the decoder in the order in which they run, the first is 0.
"""


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Four of the five seams, for a batch of ``b`` clips.

    ``tokens`` are attended to by every frame; ``concat`` are extra input channels beside the latents;
    ``embedding`` is added to the time embedding; ``hidden`` is added after the first convolution. These three may
    hold the first of several equal parts of the batch for all of them, see :func:`spread`.
    """

    tokens: Float[Tensor, "b n d"]
    concat: Float[Tensor, "_ c f h w"] | None = None
    embedding: Float[Tensor, "_ e"] | None = None
    hidden: Float[Tensor, "_ k f h w"] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Conditioning":
        """A new conditioning with ``change`` applied to every part that is there."""
        return Conditioning(
            tokens=change(self.tokens),
            concat=None if self.concat is None else change(self.concat),
            embedding=None if self.embedding is None else change(self.embedding),
            hidden=None if self.hidden is None else change(self.hidden),
        )


def join(first: Conditioning, second: Conditioning) -> Conditioning:
    """Two conditionings of the same kind as one batch, ``first`` in front; what is equal in both is kept once."""
    return Conditioning(
        tokens=torch.cat([first.tokens, second.tokens]),
        concat=_both(first.concat, second.concat),
        embedding=_both(first.embedding, second.embedding),
        hidden=_both(first.hidden, second.hidden),
    )


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return None
    return first if first is second or torch.equal(first, second) else torch.cat([first, second])


def spread(x: Shaped[Tensor, "s ..."], count: int) -> Shaped[Tensor, "b ..."]:
    """``x`` as often behind itself as makes a batch of ``count``, a multiple of its own; clips lie channels-last."""
    if len(x) == count:
        return x
    times = count // len(x)
    # joining is what a GPU's library has the faster kernel for
    return torch.cat([x.movedim(1, -1)] * times).movedim(-1, 1) if x.ndim == 5 else torch.cat([x] * times)
