"""The layers of a model that a LoRA may change, under the names that other programs have for them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from kinescribe.checkpoints.keymap import Aliases, Entry, Foreign, Shape
from kinescribe.checkpoints.source import Config, part
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig

_LAYOUTS: tuple[Foreign, ...] = ("diffusers", "modelscope")
_NO_LAYERS = ("tokens.weight",)
"""Matrices that are looked up, not multiplied with."""


@dataclass(frozen=True)
class Layer:
    """A weight of ours, or rows of it, that one product may change; ``shape`` is that of those rows."""

    network: str
    weight: str
    rows: tuple[int, int]
    shape: Shape


@dataclass(frozen=True)
class Layers:
    """All of them by network (unet or text) and foreign name, with dots or with underscores for dots.

    ``ordered`` are the diffusers names of the UNet's own layers and the tower's, ``names`` every name of a tensor
    in a foreign file of the model. ``running`` counts the layers of the tower that run; published ones may have more.
    """

    table: dict[tuple[str, str], Layer] = field(default_factory=dict)
    ordered: dict[str, list[str]] = field(default_factory=lambda: {"unet": [], "text": []})
    names: set[str] = field(default_factory=set)
    running: int = 0

    def find(self, network: str, module: str) -> Layer | None:
        """The layer of a name, if the model has it."""
        return self.table.get((network, module))

    def never_runs(self, network: str, module: str) -> bool:
        """Whether this is a layer of the text tower behind the last that runs."""
        number = re.match(r"encoder[._]layers[._](\d+)[._]", module) if network == "text" else None
        return number is not None and 0 < self.running <= int(number[1])


def layers_of(configs: Iterable[Config]) -> Layers:
    """The layers of the networks of these configs; those of image conditions lie in the UNet's file."""
    return _layers_of(tuple(configs))


@lru_cache(maxsize=4)
def _layers_of(configs: tuple[Config, ...]) -> Layers:
    layers = Layers(running=next((c.layers for c in configs if isinstance(c, TextConfig)), 0))
    for config in configs:
        for layout in _LAYOUTS:
            described = part(config, layout=layout, files=(), wanted="", aliases=Aliases())
            layers.names.update(described.keymap.foreign_shapes)
            for entry in described.keymap.entries:
                shape = described.keymap.shapes[entry.ours]
                if not entry.ours.endswith(".weight") or len(shape) < 2 or entry.ours in _NO_LAYERS:
                    continue
                _enter(layers, described.name, entry, shape)
                if layout == "diffusers" and isinstance(config, UNetConfig | TextConfig):
                    network = "text" if described.name == "text" else "unet"
                    layers.ordered[network] += [name.removesuffix(".weight") for name in entry.foreign]
    return layers


def _enter(layers: Layers, own: str, entry: Entry, shape: Shape) -> None:
    rows = shape[0] // len(entry.foreign)
    for i, name in enumerate(entry.foreign):
        module = name.removesuffix(".weight")
        layer = Layer(own, entry.ours, (i * rows, (i + 1) * rows), (rows, *shape[1:]))
        for spelt in (module, module.replace(".", "_")):
            layers.table["text" if own == "text" else "unet", spelt] = layer
