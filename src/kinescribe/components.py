"""A loaded model: its networks, its tokenizer, its schedule, and what it was made for."""

from dataclasses import dataclass

import torch

from kinescribe.catalog import ModelSpec
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.models.text import TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL


@dataclass(kw_only=True)
class Components:
    """Everything a pipeline needs, on one device and, as loaded, in one dtype.

    ``source`` says layout and path; ``model_hash`` is a fingerprint of the weights, 16 hex digits, equal for
    the same numbers whatever layout they were read from.
    """

    unet: UNet
    vae: AutoencoderKL
    text: TextEncoder
    tokenizer: Tokenizer
    schedule: ScheduleConfig
    spec: ModelSpec
    source: str
    model_hash: str

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the UNet."""
        return self.unet.head.weight.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Components":
        """Move or convert all networks in place; returns itself."""
        for network in (self.unet, self.vae, self.text):
            network.to(device=device, dtype=dtype)
        return self
