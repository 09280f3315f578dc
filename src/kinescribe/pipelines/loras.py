"""LoRAs on a loaded model: loaded, scaled, stacked and taken off."""

from collections.abc import Mapping
from pathlib import Path

from kinescribe.checkpoints.lora import Lora, read_lora
from kinescribe.checkpoints.source import Config
from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.stages import say


class Loras:
    """What a pipeline hands out as ``load_lora``, ``lora_scales`` and ``unload_lora``.

    LoRAs are added to the weights themselves: a step takes no longer with any number of them. While one is there,
    the layers that it changes are kept in main memory as they were, in the model's number format.
    """

    def __init__(self, components: Components) -> None:
        self._components = components

    def load(
        self, path: str | Path, scale: float = 1.0, name: str | None = None, *, allow_partial: bool = False
    ) -> Lora:
        """Add the LoRA in a file or folder, ``scale`` times as strong as it was trained; what was found of it.

        ``name`` is for ``lora_scales`` and ``unload_lora``, that of the file if it is left out. ``allow_partial``
        takes one that the model has not all the layers for. Raises ``WeightsError`` for a file that is damaged or
        does not fit, ``OptionError`` for a name that is taken, ``NumbersError`` for sums beyond the number format.
        """
        components = self._components
        if name is not None and name in components.adapters.scales:
            raise OptionError(f"name={name!r}: another LoRA has it: unload that, or give another name")
        parts = (components.unet, components.conditions, components.text)
        configs: list[Config] = [part.config for part in parts if part is not None]
        place = Path(path).expanduser()
        with stage("loading"):
            lora = read_lora(place, configs, name=name or self._free_name(place), allow_partial=allow_partial)
            components.adapters.add(lora.adapter, scale)
        for note in lora.notes:
            say(f"{lora.adapter.file}: {note}")
        return lora

    def set_scales(self, scales: Mapping[str, float]) -> None:
        """Change how strong some LoRAs are, by their names; 0 is without.

        Raises ``OptionError`` for an unknown name or a scale that is no finite number, ``NumbersError`` as ``load``.
        """
        self._components.adapters.set_scales(scales)

    def unload(self, name: str | None = None) -> None:
        """Take off one LoRA, or all; what no LoRA lies on is again what it was, to the last bit."""
        adapters = self._components.adapters
        adapters.remove(*(adapters.scales if name is None else (name,)))

    def _free_name(self, path: Path) -> str:
        stem, taken = path.absolute().stem, self._components.adapters.scales
        return next(n for n in (stem, *(f"{stem}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)
