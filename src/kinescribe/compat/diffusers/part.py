"""What scripts reach for on ``pipe``, ``pipe.unet``, ``pipe.vae`` and the encoders."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch

from kinescribe.models.text import TextEncoder
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.models.vision import VisionEncoder


class Part:
    """One network: ``config``, ``dtype``, ``device``, and the switches that save memory elsewhere.

    The switches do nothing, since what they turn on is on: frames are decoded a few at a time, attention never
    holds its whole matrix.
    """

    def __init__(self, network: UNet | AutoencoderKL | TextEncoder | VisionEncoder, **config: Any) -> None:
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


class Switches:
    """Switches of a pipeline that save memory elsewhere; here what they turn on is on."""

    def enable_vae_slicing(self) -> None:
        """Nothing to do: frames are always decoded a few at a time."""

    def enable_vae_tiling(self) -> None:
        """Nothing to do: frames are decoded one by one when they are large."""

    def enable_attention_slicing(self, slice_size: str | int | None = "auto") -> None:
        """Nothing to do: attention here never holds its whole matrix."""

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """Nothing to do: attention here is memory-efficient by itself."""

    disable_vae_slicing = disable_vae_tiling = disable_attention_slicing = enable_vae_slicing
    disable_xformers_memory_efficient_attention = enable_vae_slicing

    def set_progress_bar_config(self, **options: Any) -> None:
        """Nothing to do: no bar is shown; use ``callback``."""
