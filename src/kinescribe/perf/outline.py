"""A model as far as memory and time depend on it: the sizes of its networks, known before any weights are read."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from kinescribe.catalog import ModelSpec
from kinescribe.checkpoints.families import family_of
from kinescribe.checkpoints.modelscope import TEXT, VAE, VIT_H, unet_config
from kinescribe.checkpoints.modelscope_stages import conditions_config
from kinescribe.checkpoints.source import Config, PartName, Source, blank, seen
from kinescribe.components import Components
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.skip_filter import SR600, FourierSkipFilter
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The sizes of a model's networks and their number formats; None for those that it does not have.

    ``tower_dtype`` is that of the text and image towers, ``dtype`` that of all others.
    """

    spec: ModelSpec
    unet: UNetConfig
    vae: VAEConfig
    text: TextConfig | None
    conditions: ImageConditionsConfig | None
    vision: VisionConfig | None
    dtype: torch.dtype
    tower_dtype: torch.dtype

    @property
    def parts(self) -> tuple[PartName, ...]:
        """The names of the networks that the model has."""
        names: tuple[PartName, ...] = ("unet", "vae", "text", "conditions", "vision")
        return tuple(name for name in names if getattr(self, name) is not None)

    def bytes(self, part: PartName) -> int:
        """What the weights of a network take; 0 for one that the model does not have."""
        config: Config | None = getattr(self, part)
        return 0 if config is None else _numbers(config) * self.dtype_of(part).itemsize

    def dtype_of(self, part: PartName) -> torch.dtype:
        """The number format of a network."""
        return self.tower_dtype if part in ("text", "vision") else self.dtype

    def network(self, part: PartName) -> nn.Module:
        """A network without numbers."""
        config: Config = getattr(self, part)
        refinement = self.spec.refinement
        filtered = part == "unet" and refinement is not None and refinement.filtered_skips
        return _network(config, self.dtype_of(part), filtered=filtered)


def outline_of(source: Source, dtype: torch.dtype, tower_dtype: torch.dtype) -> Outline:
    """The outline of a model on disk."""
    configs = {part.name: part.config for part in source.parts}
    return _outline(source.spec, configs, dtype, tower_dtype)


def published(spec: ModelSpec, dtype: torch.dtype, tower_dtype: torch.dtype) -> Outline:
    """The outline of a published model that need not be on this computer: all share the sizes of the 1.7 B one."""
    family = family_of(spec)
    configs: dict[PartName, Config] = {"unet": unet_config(Path(), None, family), "vae": VAE}
    if family != "image-to-video":
        configs["text"] = TEXT
    if spec.picture is not None:
        configs |= {"conditions": conditions_config(None, family), "vision": VIT_H}
    return _outline(spec, configs, dtype, tower_dtype)


def named_networks(components: Components) -> dict[PartName, nn.Module]:
    """All networks that a model has, by the names of its parts."""
    every: dict[PartName, nn.Module | None] = {
        "unet": components.unet,
        "vae": components.vae,
        "text": components.text,
        "conditions": components.conditions,
        "vision": components.vision,
    }
    return {name: network for name, network in every.items() if network is not None}


def loaded(components: Components) -> Outline:
    """The outline of a model that is loaded."""
    configs = {name: network.config for name, network in named_networks(components).items()}
    tower, dtype = components.text or components.vision, components.dtype
    tower_dtype = dtype if tower is None else next(tower.parameters()).dtype
    return _outline(components.spec, configs, dtype, tower_dtype)  # type: ignore[arg-type]


def _outline(
    spec: ModelSpec, configs: dict[PartName, Config], dtype: torch.dtype, tower_dtype: torch.dtype
) -> Outline:
    every = {"text": None, "conditions": None, "vision": None} | configs
    return Outline(spec=spec, dtype=dtype, tower_dtype=tower_dtype, **every)  # type: ignore[arg-type]


@lru_cache(maxsize=32)
def _network(config: Config, dtype: torch.dtype, *, filtered: bool = False) -> nn.Module:
    network = blank(config, FourierSkipFilter(SR600) if filtered else None)
    return network.to(dtype).requires_grad_(False).eval()


@lru_cache(maxsize=32)
def _numbers(config: Config) -> int:
    return sum(weight.numel() for weight in seen(config).parameters())
