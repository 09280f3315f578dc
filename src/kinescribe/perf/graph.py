"""Passes of the UNet and of the decoder as CUDA graphs: recorded once for a shape, then replayed without the host.

A pass of the 1.7 B model launches more than a thousand kernels, each of a few microseconds on a large GPU: launched
one by one the GPU waits for the host. A recording reads and writes fixed memory, so inputs are copied there first.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from kinescribe.components import Pass
from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.ops.kept import Keeps
from kinescribe.ops.linear_fp8 import copies_here

MOST = 6
"""Recordings that are kept: both branches of guidance and one alone, each in whole and the decoder by itself, and two
of other requests."""
MOST_PICTURES = 2
"""Recordings of the decoder that are kept: of as many pictures as go together, and of those left over."""
MOST_ROWS = 1 << 18
"""Latent pixels of a pass that is recorded: larger clips keep a GPU busy while the host launches, and want memory."""

Key = tuple[object, ...]
Run = Callable[[], None]
Record = Callable[[Callable[[], tuple[Tensor, ...]]], tuple[Run, tuple[Tensor, ...]]]
"""Records a pass; gives what replays it, and the memory in which its answers then lie."""


@dataclass
class _Recording:
    given: tuple[Tensor, ...]
    told: Conditioning
    last: Conditioning
    run: Run
    answers: tuple[Tensor, ...]


R = TypeVar("R")


class _Recordings(Generic[R]):
    """What was recorded, by key; of many the ``most`` that were used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[Key] = set()
        self._made: OrderedDict[Key, R] = OrderedDict()

    def at(self, key: Key, record: Callable[[], R]) -> R | None:
        """The recording of a key, made now if this is the second time; None the first time.

        Then kernels are chosen and compiled, which cannot be recorded.
        """
        if key not in self._made:
            if key not in self._seen:
                self._seen.add(key)
                return None
            self._made[key] = record()
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]

    def clear(self) -> None:
        """Give their memory back."""
        self._made.clear()
        self._seen.clear()


class Recorder:
    """A UNet, called as itself: the first pass of a shape runs plainly, the second is recorded, all others replayed.

    Plain everywhere but on a CUDA device, and where gradients are asked for. ``record`` is for tests.
    """

    def __init__(self, unet: UNet, record: Record | None = None) -> None:
        self.unet = unet
        self._record = record or record_cuda
        self._everywhere = record is not None
        self._recordings = _Recordings[_Recording](MOST)
        self._keeping = [module for module in unet.modules() if isinstance(module, Keeps)]

    def __call__(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """As ``unet(x, t, conditioning)``, with equal numbers; raises what that raises."""
        return self.through(_pass, (x, t), conditioning)[0]

    def through(self, work: Pass, given: tuple[Tensor, ...], told: Conditioning) -> tuple[Tensor, ...]:
        """As ``work(unet, *given, told)``, a part of what the UNet does, in the same way."""
        large = len(told.tokens) * max(part[0, 0].numel() for part in given if part.ndim > 1) > MOST_ROWS
        if large or torch.is_grad_enabled() or not (self._everywhere or given[0].device.type == "cuda"):
            return work(self.unet, *given, told)
        for module in self._keeping:
            module.keep()
        # what was recorded for inference cannot be written to outside of it
        key = (work, copies_here(), torch.is_inference_mode_enabled(), *self._key(given, told))
        recording = self._recordings.at(key, lambda: self._recorded(work, given, told))
        return work(self.unet, *given, told) if recording is None else _replayed(recording, given, told)

    def forget(self) -> None:
        """Give the memory of all recordings back."""
        self._recordings.clear()
        for module in self._keeping:
            module.release()

    def _key(self, given: tuple[Tensor, ...], told: Conditioning) -> Key:
        # where these have moved, a recording reads what is no longer there
        weight, kept = self.unet.head.weight, (module.kept_at for module in self._keeping)
        parts = (*given, *_parts(told))
        shapes = tuple(None if part is None else (part.shape, part.dtype, part.device) for part in parts)
        return (*shapes, weight.data_ptr(), weight.dtype, *kept)

    def _recorded(self, work: Pass, given: tuple[Tensor, ...], told: Conditioning) -> _Recording:
        own, own_told = tuple(part.clone() for part in given), told.map(torch.clone)
        with torch.cuda.device_of(given[0]):  # type: ignore[no-untyped-call]
            run, answers = self._record(lambda: work(self.unet, *own, own_told))
        return _Recording(given=own, told=own_told, last=told, run=run, answers=answers)


@dataclass
class _Decoding:
    latents: Tensor
    run: Run
    answer: Tensor


class RecordedDecoder:
    """The ``decode`` of an autoencoder, recorded as the passes of a :class:`Recorder` are."""

    def __init__(self, vae: AutoencoderKL, record: Record | None = None) -> None:
        self._vae = vae
        self._record = record or record_cuda
        self._everywhere = record is not None
        self._recordings = _Recordings[_Decoding](MOST_PICTURES)
        self._keeping = [module for module in vae.modules() if isinstance(module, Keeps)]
        self._weights = tuple(vae.parameters())

    def __call__(self, latents: Tensor) -> Tensor:
        """As ``vae.decode(latents)``, with equal numbers; raises what that raises."""
        if torch.is_grad_enabled() or not (self._everywhere or latents.device.type == "cuda"):
            return self._vae.decode(latents)
        for module in self._keeping:
            module.keep()
        kept = (module.kept_at for module in self._keeping)
        weights = (weight.data_ptr() for weight in self._weights)
        mode = torch.is_inference_mode_enabled()
        key = (mode, latents.shape, latents.dtype, latents.device, *weights, *kept)
        try:
            recording = self._recordings.at(key, lambda: self._recorded(latents))
            if recording is None:
                return self._vae.decode(latents)
            recording.latents.copy_(latents)
            recording.run()
            return recording.answer.clone()
        except (MemoryError, RuntimeError):
            self.forget()  # what recordings hold is of use to plain work
            raise

    def forget(self) -> None:
        """Give the memory of all recordings back."""
        self._recordings.clear()
        for module in self._keeping:
            module.release()

    def _recorded(self, latents: Tensor) -> _Decoding:
        own = latents.clone()
        with torch.cuda.device_of(latents):  # type: ignore[no-untyped-call]
            run, (answer,) = self._record(lambda: (self._vae.decode(own),))
        return _Decoding(own, run, answer)


def record_cuda(work: Callable[[], tuple[Tensor, ...]]) -> tuple[Run, tuple[Tensor, ...]]:
    """``work`` as a CUDA graph of the present device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = work()
    return graph.replay, answers


def _pass(unet: UNet, x: Tensor, t: Tensor, told: Conditioning) -> tuple[Tensor, ...]:
    return (unet(x, t, told),)


def _replayed(recording: _Recording, given: tuple[Tensor, ...], told: Conditioning) -> tuple[Tensor, ...]:
    for own, part in zip(recording.given, given, strict=True):
        own.copy_(part)
    if told is not recording.last:  # all steps of a clip are told the same
        for told_own, told_now in zip(_parts(recording.told), _parts(told), strict=True):
            if told_own is not None and told_now is not None:
                told_own.copy_(told_now)
        recording.last = told
    recording.run()
    return tuple(answer.clone() for answer in recording.answers)


def _parts(told: Conditioning) -> tuple[Tensor | None, ...]:
    return told.tokens, told.concat, told.embedding, told.hidden
