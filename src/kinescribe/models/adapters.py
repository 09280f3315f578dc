"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685), added to the weights and taken out again.

A sum costs nothing at a step. What a weight was before is kept in main memory, number by number, while an adapter
lies on it: to subtract again would leave the rounding of the sum, and the model's file may be gone or converted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinescribe.errors import NumbersError, OptionError

Place = tuple[str, str]
"""The name of a network and that of a weight in it."""


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """A change to the rows ``rows[0]`` to ``rows[1]`` of one weight: ``scale * up @ down``, in the weight's shape.

    Where it is ``averaged``, the product has the kernel's length twice and is averaged over the second.
    """

    network: str
    weight: str
    rows: tuple[int, int]
    down: Float[Tensor, "r i"]
    up: Float[Tensor, "o r"]
    scale: float
    averaged: bool = False

    def add_to(self, weight: Float[Tensor, "..."], times: float) -> None:
        """Add the change ``times`` over, in place; ``weight`` is a whole one in float32, on any device."""
        start, stop = self.rows
        shape = (stop - start, *weight.shape[1:])
        product = self.up.to(weight) @ self.down.to(weight)
        if self.averaged:
            product = product.reshape(*shape[:3], shape[2], 1).mean(-2)
        weight[start:stop] += times * self.scale * product.reshape(shape)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Changes that belong together, the file they came from (without its folder) and that file's SHA-256."""

    name: str
    file: str
    sha256: str
    changes: tuple[LowRank, ...]


Changes = Sequence[tuple[LowRank, float]]


def changed(weight: Float[Tensor, "..."], changes: Changes) -> Float[Tensor, "..."]:
    """A new weight: the old one and its changes, each so many times, summed in float32; in the old one's dtype."""
    whole = weight.to(torch.float32, copy=True)
    for change, times in changes:
        change.add_to(whole, times)
    return whole.to(weight.dtype)


class Adapters:
    """The adapters on some networks, each with a scale; the weights always hold their sum.

    Networks may be moved and converted meanwhile. Weights are written in place, whoever else looks at their memory.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self._networks = dict(networks)
        self._loaded: dict[str, tuple[Adapter, float]] = {}
        self._originals: dict[Place, Tensor] = {}

    @property
    def loaded(self) -> tuple[tuple[Adapter, float], ...]:
        """Adapters and scales, in the order in which they came."""
        return tuple(self._loaded.values())

    @property
    def scales(self) -> dict[str, float]:
        """The scale of each adapter by its name."""
        return {name: scale for name, (_, scale) in self._loaded.items()}

    def add(self, adapter: Adapter, scale: float) -> None:
        """Lay on one more. ``OptionError``: its name is taken; ``NumbersError``: sums too large for their dtype."""
        if adapter.name in self._loaded:
            raise OptionError(
                f"there is an adapter {adapter.name!r} already: remove it, or give another name"
            )
        self._become({**self._loaded, adapter.name: (adapter, _finite(scale))})

    def set_scales(self, scales: Mapping[str, float]) -> None:
        """Change the scales of some adapters; the errors are those of ``add``, and ``OptionError`` for a name."""
        self._require(scales)
        new = {name: (self._loaded[name][0], _finite(scale)) for name, scale in scales.items()}
        self._become({**self._loaded, **new})

    def remove(self, *names: str) -> None:
        """Take off some adapters; weights that none lies on are again what they were, to the last bit."""
        self._require(names)
        self._become({name: entry for name, entry in self._loaded.items() if name not in names})

    def settle(self) -> None:
        """Make the sums as they stand the weights of the model: no adapter is left, and nothing kept of before."""
        self._loaded, self._originals = {}, {}

    def _require(self, names: Mapping[str, float] | Sequence[str]) -> None:
        unknown = [name for name in names if name not in self._loaded]
        if unknown:
            known = ", ".join(self._loaded) or "none"
            raise OptionError(f"no adapter is called {unknown[0]!r}: there is {known}")

    def _become(self, loaded: dict[str, tuple[Adapter, float]]) -> None:
        before, self._loaded = self._loaded, loaded
        try:
            self._write()
        except BaseException:
            self._loaded = before
            self._write()
            raise

    @torch.inference_mode()
    def _write(self) -> None:
        """Put the sums in place."""
        wanted = self._changes()
        finite = {}
        for place in {**self._originals, **wanted}:
            network, name = place
            weight = self._networks[network].get_parameter(name)
            if place not in self._originals:
                self._originals[place] = weight.to("cpu", copy=True)
            original = self._originals[place].to(weight)
            weight.copy_(changed(original, wanted[place]) if place in wanted else original)
            finite[place] = torch.stack(torch.aminmax(weight)).isfinite().all()
        for (_, name), fine in finite.items():  # asked for last: a device is waited for once
            if not fine:
                raise NumbersError(
                    f"with these adapters {name} holds numbers too large for its format: use a smaller scale, or "
                    "load the model in float32 or bfloat16"
                )
        self._originals = {place: self._originals[place] for place in wanted}

    def _changes(self) -> dict[Place, list[tuple[LowRank, float]]]:
        """The changes of each weight that is not as it was."""
        wanted: dict[Place, list[tuple[LowRank, float]]] = {}
        for adapter, scale in self._loaded.values():
            for change in adapter.changes if scale else ():
                wanted.setdefault((change.network, change.weight), []).append((change, scale))
        return wanted


def _finite(scale: float) -> float:
    if not isfinite(scale):
        raise OptionError(f"scale={scale}: use a finite number, 1 for an adapter as it was trained")
    return float(scale)
