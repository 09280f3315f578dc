"""LoRAs under diffusers' names. What each call leaves active, and how strong, is as in diffusers 0.42 with PEFT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.pipelines.loras import Loras

_HARMLESS = {
    "cache_dir", "force_download", "hotswap", "local_files_only", "low_cpu_mem_usage", "prefix", "proxies", "revision",
    "token", "use_safetensors",
}  # fmt: skip


class LoraLoading:
    """Adapters of a pipeline: the active ones act with their weights, the others are kept aside.

    All are added to the networks' own weights, so that ``fuse_lora`` changes no speed; it marks adapters as part of
    the model, which ``unload_lora_weights`` then leaves there and the ``scale`` of a call no longer reaches.
    """

    _components: Components

    def __init__(self) -> None:
        self._active: dict[str, float] = {}
        self._fused: dict[str, float] = {}
        self._switched_off = False

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: object,
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        subfolder: str | None = None,
        **options: Any,
    ) -> None:
        """Load a LoRA from a file or folder on this computer; it becomes the only active one, with weight 1.

        Raises ``WeightsError`` unless all of it fits the model, ``OptionError`` for a table of tensors in memory.
        """
        place = pretrained_model_name_or_path_or_dict
        unknown = sorted(set(options) - _HARMLESS)
        if unknown:
            raise OptionError(f"load_lora_weights has no option {unknown[0]!r} here: leave it out")
        if not isinstance(place, str | Path):
            raise OptionError(
                "load_lora_weights takes a file or folder here: save the table of tensors first"
            )
        path = Path(place, *(part for part in (subfolder, weight_name) if part))
        scales = self._components.adapters.scales
        name = adapter_name or next(n for i in range(len(scales) + 1) if (n := f"default_{i}") not in scales)
        Loras(self._components).load(path, 0.0, name)
        self.set_adapters(name)

    def set_adapters(
        self,
        adapter_names: str | Sequence[str],
        adapter_weights: object = None,
    ) -> None:
        """Make these adapters the active ones, with these weights; 1 where there is none."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        weights = _listed(adapter_weights, names)
        if len(weights) != len(names):
            raise OptionError(f"{len(weights)} adapter_weights for {len(names)} adapters: give as many")
        self._require(names)
        self._active = dict(zip(names, weights, strict=True))
        self._lay_loras(1.0)

    def fuse_lora(
        self,
        components: Sequence[str] | None = None,
        lora_scale: float = 1.0,
        adapter_names: Sequence[str] | None = None,
        **_switches: Any,
    ) -> None:
        """Make adapters, by default the active ones, part of the model, ``lora_scale`` times as strong as they are.

        Raises ``OptionError`` for ``components`` that an adapter changes more than.
        """
        names = list(self._active if adapter_names is None else adapter_names)
        self._require(names)
        for part, inside in self.get_list_adapters().items():
            both = set(inside) & set(names)
            if components is not None and part not in components and both:
                raise OptionError(f"{min(both)} changes the {part} too: fuse_lora fuses whole adapters here")
        for name in names:
            self._active[name] = self._active.get(name, 1.0) * lora_scale  # and so it stays once unfused
            self._fused[name] = self._active[name]
        self._lay_loras(1.0)

    def unfuse_lora(self, **_switches: Any) -> None:
        """Make fused adapters ordinary ones again."""
        self._fused = {}
        self._lay_loras(1.0)

    def unload_lora_weights(self) -> None:
        """Take off every adapter; what was fused stays in the weights for good."""
        adapters = self._components.adapters
        if self._fused:
            self._active = {}
            self._lay_loras(1.0)
            adapters.settle()
        adapters.remove(*adapters.scales)
        self._active, self._fused = {}, {}

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Take off some adapters for good."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._components.adapters.remove(*names)
        for name in names:
            self._active.pop(name, None)
            self._fused.pop(name, None)

    def disable_lora(self) -> None:
        """Let the active adapters rest."""
        self._switched_off = True
        self._lay_loras(1.0)

    def enable_lora(self) -> None:
        """Let them act again."""
        self._switched_off = False
        self._lay_loras(1.0)

    def get_active_adapters(self) -> list[str]:
        """The names of the active adapters."""
        return list(self._active)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """The names of all adapters, by the part of the pipeline that they change."""
        found: dict[str, list[str]] = {}
        for adapter, _ in self._components.adapters.loaded:
            for part in dict.fromkeys(change.network for change in adapter.changes):
                found.setdefault("text_encoder" if part == "text" else "unet", []).append(adapter.name)
        return {part: list(dict.fromkeys(names)) for part, names in found.items()}

    def _require(self, names: Sequence[str]) -> None:
        known = self._components.adapters.scales
        unknown = [name for name in names if name not in known]
        if unknown:
            raise OptionError(f"no adapter is called {unknown[0]!r}: there is {', '.join(known) or 'none'}")

    def _lay_loras(self, scale: float) -> None:
        """Put the adapters on the weights as a call with this ``scale`` wants them."""
        acting = {} if self._switched_off else {name: scale * weight for name, weight in self._active.items()}
        adapters = self._components.adapters
        wanted = {name: self._fused.get(name, acting.get(name, 0.0)) for name in adapters.scales}
        if wanted != adapters.scales:
            adapters.set_scales(wanted)


def _listed(weights: object, names: Sequence[str]) -> list[float]:
    """A weight for each name, 1 where none is given; ``OptionError`` for weights by network."""
    found = []
    for weight in weights if isinstance(weights, list | tuple) else [weights] * len(names):
        if not isinstance(weight, int | float | None):
            raise OptionError("adapter_weights: one number for an adapter, the same for all its networks")
        found.append(1.0 if weight is None else float(weight))
    return found
