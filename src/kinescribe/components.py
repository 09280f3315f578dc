"""A loaded model: its networks, its tokenizer, its schedule, and what it was made for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kinescribe.catalog import ModelSpec
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import OptionError
from kinescribe.models.adapters import Adapters
from kinescribe.models.conditions import Conditioning
from kinescribe.models.image_conditions import ImageConditions
from kinescribe.models.text import TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.models.vision import VisionEncoder

Pass = Callable[..., tuple[Tensor, ...]]
"""``work(unet, *given, told)``: a part of the UNet's work on tensors, and the tensors that come of it."""
Through = Callable[[Pass, tuple[Tensor, ...], Conditioning], tuple[Tensor, ...]]
"""``through(work, given, told)``: carries a pass out."""


@runtime_checkable
class Placement(Protocol):
    """Where the networks are while a request is carried out, and in which portions they work; see ``perf.apply``."""

    @property
    def run(self) -> Callable[[Tensor, Tensor, Conditioning], Tensor]:
        """The UNet, called in the way that is fastest as it is placed."""

    def through(self, work: Pass, given: tuple[Tensor, ...], told: Conditioning) -> tuple[Tensor, ...]:
        """A part of the UNet's work, in that way too."""

    def decode(self, latents: Tensor) -> Tensor:
        """The autoencoder's ``decode``, likewise."""

    @property
    def merged(self) -> bool:
        """Whether both branches of guidance run at once."""

    @property
    def rows(self) -> int:
        """Vectors that the UNet works on together."""

    @property
    def pixels(self) -> int:
        """Pixels that go through the autoencoder together."""

    def enter(self, stage: str) -> None:
        """Bring what works in a stage to the device, after what does not has left."""

    def one_rung_down(self) -> str | None:
        """From now on spend less memory, once a request; what that means in words, or None if it cannot be."""


@dataclass(kw_only=True)
class Components:
    """Everything a pipeline needs, on one device and, as loaded, in one dtype.

    ``text`` and ``tokenizer`` are None for a model that reads no text, ``conditions`` and ``vision`` for one
    that takes no picture. ``source`` says layout and path; ``model_hash`` is a fingerprint of the weights,
    16 hex digits, equal for the same numbers whatever layout they were read from; ``adapters`` may lie on them since.
    ``memory`` is how much of it may be spent; ``works_on`` is the device where networks that wait in main memory
    will work, None where they are; ``placement`` says how the present request is carried out.
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
    memory: Literal["auto", "roomy", "low"] | int = "auto"  # perf.budget.Memory
    works_on: torch.device | None = None
    placement: Placement | None = field(init=False, default=None, repr=False, compare=False)
    adapters: Adapters = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = {"unet": self.unet, "text": self.text, "conditions": self.conditions}
        self.adapters = Adapters({name: part for name, part in parts.items() if part is not None})

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.unet.head.weight.device if self.works_on is None else self.works_on

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the UNet."""
        return self.unet.head.weight.dtype

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks that the model has."""
        every = (self.unet, self.vae, self.text, self.conditions, self.vision)
        return tuple(network for network in every if network is not None)

    def predict(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """As ``unet``, in the way that is fastest as it is placed."""
        run = self.unet if self.placement is None else self.placement.run
        return run(x, t, conditioning)

    def through(self, work: Pass, given: tuple[Tensor, ...], told: Conditioning) -> tuple[Tensor, ...]:
        """``work(unet, *given, told)``, in that way too."""
        if self.placement is None:
            return work(self.unet, *given, told)
        return self.placement.through(work, given, told)

    def decode(self, latents: Tensor) -> Tensor:
        """As ``vae.decode``, in the way that is fastest as it is placed."""
        return self.vae.decode(latents) if self.placement is None else self.placement.decode(latents)

    def require_text(self) -> tuple[Tokenizer, TextEncoder]:
        """The tokenizer and the text tower; raises ``OptionError`` for a model that reads no text."""
        if self.tokenizer is None or self.text is None:
            raise OptionError(
                f"{self.spec.name} reads no text: leave the prompt out, or choose another model"
            )
        return self.tokenizer, self.text

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Components":
        """Move or convert all networks in place; returns itself. No plan places what was moved by hand."""
        if device is not None:
            self.works_on = self.placement = None
        for network in self.networks:
            network.to(device=device, dtype=dtype)
        return self
