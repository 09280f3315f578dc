"""What scripts reach for on ``pipe.unet``, ``pipe.vae`` and ``pipe.text_encoder``."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch

from kinescribe.models.text import TextEncoder
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL


class Part:
    """One network: ``config``, ``dtype``, ``device``, and the switches that save memory elsewhere.

    The switches do nothing, since what they turn on is on: frames are decoded a few at a time, attention never
    holds its whole matrix.
    """

    def __init__(self, network: UNet | AutoencoderKL | TextEncoder, **config: Any) -> None:
        self._network = network
        self.config = SimpleNamespace(**asdict(network.config), **config)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return next(self._network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self._network.parameters()).device

    def enable_forward_chunking(self, chunk_size: int | None = None, dim: int = 0) -> None:
        """Accepted; the numbers are the same either way."""

    def disable_forward_chunking(self) -> None:
        """Accepted."""

    def enable_slicing(self) -> None:
        """Accepted: frames are always decoded a few at a time."""

    def disable_slicing(self) -> None:
        """Accepted."""

    def enable_tiling(self) -> None:
        """Accepted."""

    def disable_tiling(self) -> None:
        """Accepted."""

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """Accepted: attention is memory-efficient by itself."""

    def set_attention_slice(self, slice_size: str | int | None = "auto") -> None:
        """Accepted."""
