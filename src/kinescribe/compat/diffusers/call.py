"""One call of a pipeline: its arguments under diffusers' names, its random numbers, its output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kinescribe.errors import OptionError

Generators = torch.Generator | list[torch.Generator] | None
OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass(frozen=True)
class TextToVideoSDPipelineOutput:
    """``frames`` of every clip; also as item 0 and item "frames".

    ``(b, f, h, w, 3)`` floats from 0 to 1 for output type np, ``(b, f, 3, h, w)`` for pt, lists of PIL images
    for pil, latents ``(b, 4, f, h/8, w/8)`` for latent.
    """

    frames: Any

    def __getitem__(self, key: int | str) -> Any:
        return {"frames": self.frames, 0: self.frames}[key]


I2VGenXLPipelineOutput = TextToVideoSDPipelineOutput


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the calls of all pipelines share, complete and checked."""

    num_inference_steps: int
    guidance_scale: float
    output_type: str
    prompt: str | list[str] | None = None
    negative_prompt: str | list[str] | None = None
    eta: float = 0.0  # for DDIM; the other schedulers have their own
    generator: Generators = None
    latents: Tensor | None = None
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    return_dict: bool = True
    callback: Callable[[int, Tensor, Tensor], None] | None = None  # step from 0, time, latents
    callback_steps: int = 1
    cross_attention_kwargs: dict[str, Any] | None = None
    clip_skip: int | None = None

    @classmethod
    def of(cls, defaults: dict[str, Any], options: dict[str, Any], *, own: Sequence[str]) -> "Call":
        """The options with ``defaults`` for what is None; ``own`` are the pipeline's names beside these.

        ``clip_skip`` may be given if it says what ``defaults`` say. Raises ``OptionError`` for what cannot be.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise OptionError(f"unknown argument {unknown[0]!r}: known are {', '.join([*own, *known])}")
        given = {name: value for name, value in options.items() if value is not None}
        values = {**defaults, **given}
        values["guidance_scale"] = float(values["guidance_scale"])
        call = cls(**{**values, "eta": float(values.get("eta", 0.0))})
        call.check(reads=defaults.get("clip_skip"))
        return call

    @property
    def guided(self) -> bool:
        """A second, negative branch is asked too."""
        return self.guidance_scale > 1.0

    @property
    def lora_scale(self) -> float:
        """What the weights of the active adapters are multiplied with in this call."""
        return (self.cross_attention_kwargs or {}).get("scale", 1.0)

    def check(self, *, reads: int | None) -> None:
        """Raise ``OptionError`` for contradictions and for what is not supported.

        ``reads`` is the one value of ``clip_skip`` that names the layer which the model reads.
        """
        if (self.prompt is None) == (self.prompt_embeds is None):
            raise OptionError("give either prompt or prompt_embeds, and not both")
        if self.negative_prompt is not None and self.negative_prompt_embeds is not None:
            raise OptionError("give either negative_prompt or negative_prompt_embeds, not both")
        if self.callback_steps < 1:
            raise OptionError(f"callback_steps={self.callback_steps}: use 1 or more")
        if self.output_type not in OUTPUT_TYPES:
            raise OptionError(f"output_type={self.output_type!r}: use one of {', '.join(OUTPUT_TYPES)}")
        if self.clip_skip not in (None, reads):
            raise OptionError(f"clip_skip={self.clip_skip}: this family reads one layer only; leave it out")
        if set(self.cross_attention_kwargs or {}) - {"scale"}:
            raise OptionError("cross_attention_kwargs: only 'scale', that of the LoRAs, is understood")
        scale = (self.cross_attention_kwargs or {}).get("scale", 1.0)
        if not isinstance(scale, int | float):
            raise OptionError(f"cross_attention_kwargs: scale={scale!r} is no number")


def given_or(value: int | None, otherwise: int) -> int:
    """An argument, or what stands for None."""
    return otherwise if value is None else value


def require_count(**counts: int) -> None:
    """Raise ``OptionError`` for the first that is no whole number from 1 on."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise OptionError(f"{name}={count!r}: use a whole number from 1 on")


def require_size(height: int, width: int) -> None:
    """Raise ``OptionError`` for a side that no latents have."""
    for name, side in (("height", height), ("width", width)):
        if side < 8 or side % 8:
            raise OptionError(f"{name}={side}: use a multiple of 8")


class Draws:
    """Random numbers as diffusers draws them: from the generator given, or from torch's own of the device.

    Noise within sampling comes frame by frame, because its pipelines fold frames into the batch there. A list
    of generators gives each clip its own.
    """

    def __init__(
        self,
        generator: Generators,
        shape: Sequence[int],
        *,
        device: torch.device,
        dtype: torch.dtype,
        step_dtype: torch.dtype,
    ) -> None:
        alone = isinstance(generator, list) and len(generator) == 1
        self._generator = generator[0] if isinstance(generator, list) and alone else generator
        self._shape = tuple(shape)
        self._device, self._dtype, self._step_dtype = device, dtype, step_dtype
        if isinstance(self._generator, list) and len(self._generator) != shape[0]:
            raise OptionError(f"{len(self._generator)} generators for {shape[0]} clips: give as many, or one")

    def initial(self) -> Float[Tensor, "b c f h w"]:
        """What sampling starts from, unit variance."""
        return self._draw(self._shape, self._dtype)

    def pictures(self, count: int, *, anybodys: bool = False) -> Float[Tensor, "n c h w"]:
        """What to pick the latents of ``count`` pictures with, float32; ``anybodys`` is torch's own generator."""
        _, c, _, h, w = self._shape
        generator = None if anybodys or isinstance(self._generator, list) else self._generator
        return _randn((count, c, h, w), generator, self._device, self._dtype).float()

    def around(self) -> Float[Tensor, "b c f h w"]:
        """The noise that is laid over the latents of a clip, float32."""
        return self._folded(self._dtype)

    def step(self, index: int) -> Float[Tensor, "b c f h w"]:  # noqa: ARG002 - samplers tell their step
        """Fresh noise for one step, float32."""
        return self._folded(self._step_dtype)

    def _folded(self, dtype: torch.dtype) -> Tensor:
        b, c, f, h, w = self._shape
        return rearrange(self._draw((b * f, c, h, w), dtype).float(), "(b f) c h w -> b c f h w", b=b)

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if not isinstance(self._generator, list):
            return _randn(shape, self._generator, self._device, dtype)
        part = (shape[0] // len(self._generator), *shape[1:])
        return torch.cat([_randn(part, one, self._device, dtype) for one in self._generator])


def _randn(
    shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    where = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=where, dtype=dtype).to(device)


def as_output(images: Float[Tensor, "b f 3 h w"], kind: str) -> Any:
    """Pictures in about [-1, 1] as ``np``, ``pt`` or ``pil``; the last rounds, which the others leave open."""
    pictures = (images * 0.5 + 0.5).clamp(0, 1)
    if kind == "pt":
        return pictures
    array: np.ndarray = rearrange(pictures, "b f c h w -> b f h w c").cpu().numpy()
    if kind == "np":
        return array
    return [[Image.fromarray(frame) for frame in clip] for clip in (array * 255).round().astype(np.uint8)]
