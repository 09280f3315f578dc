"""What each stage of a request needs beside the weights, counted on the model's own networks without their numbers.

With the ``capability`` of a GPU the ``peak`` is that of the kernels it would run, whose operations are not seen; so
``flops`` and ``moved`` are told without one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, cast

import torch
from torch import Tensor

from kinescribe.checkpoints.source import PartName
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.ops.select import Capability, standing_for
from kinescribe.ops.slices import WHOLE, at_most, sampled
from kinescribe.perf import fp8, reuse
from kinescribe.perf.count import NOTHING, Count, counted
from kinescribe.perf.outline import Outline

StageName = Literal["reading the prompt", "reading the picture", "encoding", "denoising", "decoding"]

WORKING: dict[str, tuple[PartName, ...]] = {
    "reading the prompt": ("text",),
    "reading the picture": ("text", "vision", "vae"),
    "encoding": ("vae",),
    "denoising": ("unet",),
    "decoding": ("vae",),
}
"""The networks that work in each stage, besides the conditions, which are small and always at hand."""

LOCAL_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is asked of a model, as far as memory and time depend on it.

    ``width`` and ``height`` are those that the model computes in, in pixels. The UNet sees ``window`` of the
    ``frames`` of each of ``clips`` at a time, ``passes`` times in all, ``guided`` with both branches of guidance.
    ``encoded`` frames are put in. What the encoder leaves is ``kept`` for so many windows, and the UNet has copies in
    ``eight_bits`` (see ``perf.presets``).
    """

    frames: int
    window: int
    width: int
    height: int
    clips: int
    guided: bool
    passes: int
    encoded: int
    kept: int = 0
    eight_bits: bool = False

    def stages(self, model: Outline) -> tuple[StageName, ...]:
        """The stages in their order."""
        if model.vision is not None:
            return "reading the picture", "denoising", "decoding"
        if self.encoded:
            return "reading the prompt", "encoding", "denoising", "decoding"
        return "reading the prompt", "denoising", "decoding"

    def latents(self, model: Outline) -> tuple[int, int, int, int, int]:
        """The shape of the noisy clips in one pass."""
        factor = model.vae.factor
        return self.clips, model.vae.latent_channels, self.window, self.height // factor, self.width // factor

    def vectors(self, model: Outline, *, merged: bool) -> int:
        """How many the UNet works on in one pass, of both branches of guidance where these are ``merged``."""
        clips, _, *sizes = self.latents(model)
        return clips * prod(sizes) * (2 if self.guided and merged else 1)


def latent_bytes(model: Outline, work: Work) -> int:
    """One clip's latents in float32, all of its frames."""
    factor = model.vae.factor
    return 4 * model.vae.latent_channels * work.frames * (work.height // factor) * (work.width // factor)


@lru_cache(maxsize=256)
def reading(model: Outline, work: Work, capability: Capability | None = None) -> Count:
    """Prompts, and a picture where the model takes one; twice with guidance."""
    counts = []
    if model.text is not None:
        ids = torch.empty(work.clips, model.text.context_length, dtype=torch.long, device="meta")
        text = _of(model, "text", (ids,))
        counts += [text, text] if work.guided else [text]
    if model.vision is not None:
        side, dtype = model.vision.size, model.dtype_of("vision")
        counts.append(_of(model, "vision", (torch.empty(1, 3, side, side, dtype=dtype, device="meta"),)))
        counts.append(encoding(model, work, 1, capability) if work.encoded else NOTHING)
    return sum(counts, NOTHING)


@lru_cache(maxsize=256)
def denoising(
    model: Outline, work: Work, *, merged: bool, rows: int, capability: Capability | None = None
) -> Count:
    """One pass of the UNet over a window; of guidance one branch after the other unless ``merged``."""
    unet, (x, times, told) = model.network("unet"), _given(model, work, merged=merged)
    with at_most(rows), sampled(), standing_for(capability):
        return counted(lambda: unet(x.to(model.dtype), times, told).float())


def denoising_in_whole(model: Outline, work: Work, *, merged: bool) -> Count:
    """The same without slices, which shows all of its operations; for its ``flops`` and ``moved``."""
    count = denoising(model, work, merged=merged, rows=WHOLE)
    return count.times(2 if work.guided and not merged else 1)


@lru_cache(maxsize=256)
def kept_bytes(model: Outline, work: Work) -> int:
    """What a key step of ``reuse`` leaves for others, of all branches and windows that ``work`` keeps it for."""
    if not work.kept:
        return 0
    unet, (x, times, told) = cast(UNet, model.network("unet")), _given(model, work, merged=False)
    with torch.no_grad():
        _, *left = reuse.whole(unet, x.to(model.dtype), times, told)
    branches = 2 if work.guided else 1
    return work.kept * branches * sum(part.nbytes for part in left)


@lru_cache(maxsize=256)
def copy_bytes(model: Outline, capability: Capability | None = None) -> int:
    """What copies of the UNet's weights in 8 bits take on a device of that generation."""
    with standing_for(capability):
        return fp8.copy_bytes(cast(UNet, model.network("unet")))


def whole(name: StageName, model: Outline, work: Work, *, merged: bool) -> Count:
    """A stage from its beginning to its end, without slices; for its ``flops`` and ``moved``."""
    if name == "denoising":
        return denoising_in_whole(model, work, merged=merged).times(work.passes)
    if name == "decoding":
        return decoding(model, work, 1).times(work.clips * work.frames)
    if name == "encoding":
        return encoding(model, work, 1).times(work.encoded)
    return reading(model, work)


def _given(model: Outline, work: Work, *, merged: bool) -> tuple[Tensor, Tensor, Conditioning]:
    """What a pass of the UNet is given, without numbers."""
    shape = work.latents(model)
    both = work.clips * (2 if work.guided and merged else 1)

    def empty(*sizes: int, dtype: torch.dtype = model.dtype) -> Tensor:
        return torch.empty(sizes, dtype=dtype, device="meta")

    channels = model.unet.in_channels - shape[1]
    told = Conditioning(
        tokens=empty(both, _tokens(model), model.unet.context_dim),
        concat=empty(shape[0], channels, *shape[2:]) if channels else None,
        embedding=None if model.conditions is None else empty(shape[0], 4 * model.unet.width),
    )
    return empty(*shape, dtype=torch.float32), empty(work.clips, dtype=torch.float32), told


def _tokens(model: Outline) -> int:
    words = 0 if model.text is None else model.text.context_length
    if model.conditions is None:
        return words
    return words + model.conditions.image_tokens + (LOCAL_TOKENS if model.conditions.local_channels else 0)


def decoding(model: Outline, work: Work, together: int, capability: Capability | None = None) -> Count:
    """``together`` frames from latents to pixels."""
    _, channels, _, y, x = work.latents(model)
    return _vae(model, "decode", (1, channels, y, x), capability).at_once(together)


def encoding(model: Outline, work: Work, together: int, capability: Capability | None = None) -> Count:
    """``together`` frames from pixels to latents."""
    shape = (1, model.vae.in_channels, work.height, work.width)
    return _vae(model, "encode", shape, capability).at_once(together)


@lru_cache(maxsize=256)
def _vae(model: Outline, call: str, shape: tuple[int, ...], capability: Capability | None) -> Count:
    work: Callable[[Tensor], object] = getattr(model.network("vae"), call)
    given = torch.empty(shape, dtype=model.dtype_of("vae"), device="meta")
    with standing_for(capability):
        return counted(lambda: work(given))


def _of(model: Outline, part: PartName, given: tuple[Tensor, ...]) -> Count:
    network = model.network(part)
    return counted(lambda: network(*given))
