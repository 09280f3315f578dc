"""A loaded model: its networks, its tokenizer, its schedule, and what it was made for."""

from dataclasses import dataclass

import torch
from torch import nn

from kinescribe.catalog import ModelSpec
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import OptionError
from kinescribe.models.image_conditions import ImageConditions
from kinescribe.models.text import TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.models.vision import VisionEncoder


@dataclass(kw_only=True)
class Components:
    """Everything a pipeline needs, on one device and, as loaded, in one dtype.

    ``text`` and ``tokenizer`` are None for a model that reads no text, ``conditions`` and ``vision`` for one
    that takes no picture. ``source`` says layout and path; ``model_hash`` is a fingerprint of the weights,
    16 hex digits, equal for the same numbers whatever layout they were read from.
    """

    unet: UNet
    vae: AutoencoderKL
    text: TextEncoder | None
    tokenizer: Tokenizer | None
    schedule: ScheduleConfig
    spec: ModelSpec
    source: str
    model_hash: str
    conditions: ImageConditions | None = None
    vision: VisionEncoder | None = None

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the UNet."""
        return self.unet.head.weight.dtype

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks that the model has."""
        every = (self.unet, self.vae, self.text, self.conditions, self.vision)
        return tuple(network for network in every if network is not None)

    def require_text(self) -> tuple[Tokenizer, TextEncoder]:
        """The tokenizer and the text tower; raises ``OptionError`` for a model that reads no text."""
        if self.tokenizer is None or self.text is None:
            raise OptionError(
                f"{self.spec.name} reads no text: leave the prompt out, or choose another model"
            )
        return self.tokenizer, self.text

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Components":
        """Move or convert all networks in place; returns itself."""
        for network in self.networks:
            network.to(device=device, dtype=dtype)
        return self
