"""Encoder propagation (Faster Diffusion, Li et al., 2312.09608): between key steps only the decoder runs.

What the encoder and the middle of a UNet compute changes little from step to step, what the decoder computes much. At
a key step the whole network runs; at the others the decoder alone, on what the last key step left, told its own time.
Its coarsest level reads nothing but that: it is kept as well, of a decoder that has others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kinescribe.components import Through
from kinescribe.diffusion.denoiser import Branch
from kinescribe.diffusion.guidance import Interval
from kinescribe.models.conditions import Conditioning, spread
from kinescribe.models.unet import UNet

OF = 50
"""The steps of the path on which key steps are given."""

Left = tuple[Tensor, ...]
"""What a key step left for the decoder: the result of its coarsest level, then the other levels' skips in order."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What of a path is computed in full: the network at ``keys``, guidance at the noise levels of ``guided``.

    ``keys`` counts from 0 on a path of 50 steps; on another they lie at the same shares. The last step is always one.
    """

    keys: tuple[int, ...]
    guided: Interval

    def is_key(self, index: int, total: int) -> bool:
        """Whether the whole network runs at step ``index`` of ``total`` (from 0)."""
        return index in {0, total - 1, *(key * total // OF for key in self.keys)}


PUBLISHED = Policy(keys=(0, 1, 2, 3, 5, 10, 15, 25, 35), guided=Interval(0.28, 5.42))
"""The key steps that the paper gives for 50 steps; the interval of guidance that Kynkäänniemi et al. (2404.07724) give
for Stable Diffusion XL."""


class Reused:
    """A UNet, called as itself in a loop over steps, of which only the decoder runs between key steps.

    ``conditions`` are what it is told in each branch of guidance. ``step`` and ``window`` (from 0) say where the loop
    stands. A step for which nothing is kept, as after a change of branches, is a key step.
    """

    def __init__(
        self, through: Through, conditions: Mapping[Branch, Conditioning], policy: Policy, total: int
    ) -> None:
        self._through, self._policy, self._total = through, policy, total
        self._conditions = conditions
        self._kept: dict[tuple[int, Branch], Left] = {}
        self.step = self.window = 0

    def __call__(self, x: Tensor, t: Tensor, told: Conditioning) -> Tensor:
        """As ``unet(x, t, told)``; equal to it at key steps."""
        branch = next(name for name, each in self._conditions.items() if each is told)
        left = None if self._policy.is_key(self.step, self._total) else self._left(branch, len(x))
        if left is not None:
            return self._through(rest, (t, *left), told)[0]
        self._let_go(branch)  # before new memory is asked for
        answer, *left_now = self._through(whole, (x, t), told)
        self._kept[self.window, branch] = tuple(left_now)
        return answer

    def _left(self, branch: Branch, clips: int) -> Left | None:
        left = self._kept.get((self.window, branch))
        both = self._kept.get((self.window, "both"))
        if left is None and both is not None and branch == "positive":
            return tuple(part[-clips:] for part in both)  # what both branches share has no other rows
        return left

    def _let_go(self, branch: Branch) -> None:
        """Forget what the branches about to be asked left before, together or apart."""
        others: tuple[Branch, ...] = ("negative", "positive") if branch == "both" else ("both",)
        for each in (branch, *others):
            self._kept.pop((self.window, each), None)


def whole(unet: UNet, x: Tensor, t: Tensor, told: Conditioning) -> tuple[Tensor, ...]:
    """The answer of the network, and behind it what is left for :func:`rest`."""
    about = unet.tell(spread(t, len(told.tokens)), told)
    left, skips = unet.encode(x, about, told)
    for level in list(unet.up)[: _kept(unet)]:
        left = level(left, about, skips)
    return unet.decode(left, list(skips), about, _kept(unet)), left, *skips


def rest(unet: UNet, t: Tensor, left: Tensor, *given: Tensor | Conditioning) -> tuple[Tensor, ...]:
    """The answer of the finer levels, from what another step left; last of ``given`` is what the network is told."""
    *skips, told = given
    assert isinstance(told, Conditioning)
    about = unet.tell(spread(t, len(told.tokens)), told)
    return (unet.decode(left, list(skips), about, _kept(unet)),)  # type: ignore[arg-type]


def _kept(unet: UNet) -> int:
    """How many levels of the decoder are kept."""
    return min(1, len(unet.up) - 1)
