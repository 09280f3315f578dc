"""Noise of a stochastic sampler as the increments of one Brownian path per video.

The path is a virtual tree (Li et al., 2001.01328): what it gains between any two noise levels follows from a
whole number. The numbers are those of ``torchsde.BrownianTree``, which the second stage's reference asks, to
the last bit.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.random import SeedSequence
from torch import Generator, Tensor

from kinescribe.diffusion.trajectory import Trajectory, float32_of
from kinescribe.errors import OptionError

DIGITS = 6
"""Decimals that points on a path are rounded to; with them a walk down the tree ends."""

POOL = 24
"""Size of numpy's entropy pool; another size makes other paths."""

DRAWERS = 4
"""Paths that are followed at the same time, each by a thread of its own."""

Gain = Float32[np.ndarray, "c f h w"]
"""In numpy, which works in the thread that asks it: torch would wake all of its own for each of a thousand sums."""


class BrownianNoise:
    """Unit noise for the steps of ``path``, one Brownian path per entropy; ``step`` is a ``StepNoise``.

    Drawn in float32 on the CPU, then moved. Points are ratios noise / signal, and the tree spans those of ``path``.
    Raises ``OptionError`` where a level has no signal.
    """

    def __init__(
        self,
        entropies: Sequence[int],
        shape: tuple[int, int, int, int],
        path: Trajectory,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._legs = [(float32_of(leg.now.ratio), float32_of(leg.to.ratio)) for leg in path]
        ratios = [ratio for leg in self._legs for ratio in leg if ratio > 0]
        if math.inf in ratios:
            raise OptionError(
                "a Brownian path cannot begin where no signal is left: "
                "use a sampler that draws none, or a spacing that starts later"
            )
        self._trees = [_Tree(entropy, shape, min(ratios), max(ratios)) for entropy in entropies]
        self._device = torch.device(device)
        self._drawers = ThreadPoolExecutor(DRAWERS, thread_name_prefix="brownian")

    def step(self, index: int) -> Float[Tensor, "b c f h w"]:
        """Unit noise for step ``index``: the path's increment over it, divided by its standard deviation.

        In any order; going down the levels, as samplers do, takes the fewest draws. Samplers ask once all of a step is
        under way on a GPU. Not before: a thread that launches kernels and those that draw would wait for each other.
        """
        now, to = self._legs[index]
        gains = torch.stack(
            [
                torch.from_numpy(gain)
                for gain in self._drawers.map(lambda tree: tree.increment(to, now), self._trees)
            ]
        )
        # in float32 as its reference: to - now and its root are rounded there
        spread = (torch.tensor(to) - torch.tensor(now)).abs().sqrt()
        return gains.to(self._device).neg_().div_(spread.to(self._device))


class _Node(NamedTuple):
    """A dyadic part of a path: its ends, its place (``key`` in the row ``depth``), what the path gains over it."""

    start: float
    end: float
    key: int
    depth: int
    gain: Gain


class _Tree:
    """One path over [low, high], split in halves down to the points that are asked for."""

    def __init__(self, entropy: int, shape: tuple[int, ...], low: float, high: float) -> None:
        self._entropy = entropy
        self._shape = shape
        seed = SeedSequence(entropy=entropy, pool_size=POOL).generate_state(3)[0]
        # the ends rounded, the deviation not: so it is in the reference
        gain = self._draw(int(seed)) * math.sqrt(high - low)
        self._root = _Node(round(low, DIGITS), round(high, DIGITS), 0, 0, gain)
        self._halved: dict[tuple[int, int], Gain] = {}

    def increment(self, start: float, end: float) -> Gain:
        """How much the path gains from ``start`` to ``end``, both within the tree but for their rounding."""
        ends = (self._root.start, self._root.end)
        start, end = (min(max(round(point, DIGITS), ends[0]), ends[1]) for point in (start, end))
        return reduce(np.add, self._parts(start, end)) if start < end else np.zeros(self._shape, np.float32)

    def _parts(self, start: float, end: float) -> Iterator[Gain]:
        """The gains of the largest nodes that tile ``start`` to ``end``, left to right.

        What was drawn for nodes around ``start`` is kept, some twenty tensors: there the next step ends.
        """
        kept: dict[tuple[int, int], Gain] = {}
        waiting = [(self._root, start, end)]
        while waiting:
            node, begin, finish = waiting.pop()
            if (begin, finish) == (node.start, node.end):
                yield node.gain
                continue
            left, right = self._halves(node)
            if node.start < start < node.end:
                kept[node.key, node.depth] = left.gain
            if finish > right.start:
                waiting.append((right, max(begin, right.start), finish))
            if begin < left.end:
                waiting.append((left, begin, min(finish, left.end)))
        self._halved = kept

    def _halves(self, node: _Node) -> tuple[_Node, _Node]:
        start, end, key, depth, gain = node
        middle = round(0.5 * (end + start), DIGITS)
        left = self._halved.pop((key, depth), None)
        if left is None:
            share = 1 / (end - start)
            bridge = math.sqrt((middle - start) * (end - middle) * share)
            left = (middle - start) * gain * share + bridge * self._draw(self._seed(key, depth))
        return (
            _Node(start, middle, 2 * key, depth + 1, left),
            _Node(middle, end, 2 * key + 1, depth + 1, gain - left),
        )

    def _seed(self, key: int, depth: int) -> int:
        sequence = SeedSequence(entropy=self._entropy, spawn_key=(key, depth), pool_size=POOL)
        return int(sequence.generate_state(4)[0])

    def _draw(self, seed: int) -> Gain:
        drawn: Gain = torch.randn((1, *self._shape), generator=Generator().manual_seed(seed))[0].numpy()
        return drawn
