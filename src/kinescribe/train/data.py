"""Training data on the device: clips drawn by worker processes, rendered in chunks, kept in a rolling cache.

Chunk c of a rank is a function of (seed, rank, c) alone and lies in slot c modulo the number of slots. So a cache
needs no place in a checkpoint: after a return the same chunks are made again.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, Int16, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from kinescribe.models.tokenizer import Tokenizer
from kinescribe.train.config import CacheConfig
from kinescribe.world.clip import Clips, sample_clips
from kinescribe.world.grammar import caption, vocabulary_words
from kinescribe.world.render import render_at, subject_masks_at

AHEAD = 3
RENDERED_AT_ONCE = 2048  # the renderer is bound by kernel launches below this
Make = Callable[[int], dict[str, Tensor]]
Times = Float[Tensor, "n f"]
"""When each frame of each clip is drawn, 0 to 1 over a clip's motion."""


class Ring:
    """A rolling cache of chunks of tensors, all of one length along the first axis.

    It starts with `first_slots` chunks and gains one, later replaces the oldest, every `renew_steps` steps.
    """

    def __init__(self, config: CacheConfig, make: Make) -> None:
        self.config, self._make = config, make
        self._chunks = 0
        self._store: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self._chunks, self.config.slots) * self.config.chunk

    def reach(self, step: int) -> int:
        """Bring the cache to where it must be at `step` and return the number of chunks made for that."""
        wanted = self.config.first_slots + step // self.config.renew_steps
        begin = max(self._chunks, wanted - self.config.slots)
        for number in range(begin, wanted):
            self._put(number, self._make(number))
        self._chunks = wanted
        return wanted - begin

    def rows(self, n: int, generator: Generator) -> Int[Tensor, " n"]:
        """Random row numbers on the generator's device."""
        return torch.randint(len(self), (n,), generator=generator, device=generator.device)

    def __getitem__(self, name: str) -> Tensor:
        """The whole of one tensor; only the first `len(ring)` rows are filled."""
        return self._store[name]

    def _put(self, number: int, chunk: dict[str, Tensor]) -> None:
        begin = number % self.config.slots * self.config.chunk
        for name, tensor in chunk.items():
            if name not in self._store:
                shape = (self.config.slots * self.config.chunk, *tensor.shape[1:])
                self._store[name] = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
            self._store[name][begin : begin + self.config.chunk] = tensor


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How one chunk of clips is drawn; `captions` may be zero, for pictures without words."""

    count: int
    captions: int
    context_length: int
    held_out: bool


@dataclass(frozen=True)
class Drawn:
    """The attributes of a chunk's clips, and several captions of each as token ids."""

    clips: Clips
    ids: Int16[np.ndarray, "n captions tokens"]


class Scribe:
    """Draws chunks ahead of time in worker processes, so that the device never waits for words."""

    def __init__(self, drawing: Drawing, seed: int, rank: int, workers: int) -> None:
        self.drawing, self._root = drawing, (seed, rank)
        self._pool = None
        if workers > 0:
            # Not forked: a forked child of a process that holds a CUDA context may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
        self._pending: dict[int, Future[Drawn]] = {}

    def take(self, number: int) -> Drawn:
        """Chunk `number`; the chunks after it are begun meanwhile."""
        if self._pool is None:
            return draw(self.drawing, self._seed(number))
        for ahead in range(number, number + 1 + AHEAD):
            if ahead not in self._pending:
                self._pending[ahead] = self._pool.submit(draw, self.drawing, self._seed(ahead))
        return self._pending.pop(number).result()

    def close(self) -> None:
        """End the workers; what they have begun they finish, what waits is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _seed(self, number: int) -> int:
        return int(np.random.SeedSequence([*self._root, number]).generate_state(1)[0])


def draw(drawing: Drawing, seed: int) -> Drawn:
    """The clips and captions that `seed` stands for."""
    clips = sample_clips(drawing.count, seed, held_out=drawing.held_out)
    if drawing.captions == 0:
        return Drawn(clips, np.zeros((drawing.count, 0, 0), dtype=np.int16))
    rng = Random(seed)
    texts = [caption(clips[i], rng) for i in range(len(clips)) for _ in range(drawing.captions)]
    ids = world_tokenizer(drawing.context_length)(texts).ids.numpy().astype(np.int16)
    return Drawn(clips, ids.reshape(drawing.count, drawing.captions, drawing.context_length))


@cache
def world_tokenizer(context_length: int) -> Tokenizer:
    """CLIP's tokenizer, cut down to the ids that the world's own words need."""
    full = Tokenizer.clip()
    keep = sorted({number for word in vocabulary_words() for number in full.encode(word)})
    return Tokenizer.clip(context_length=context_length, keep=keep)


def render_clips(
    clips: Clips, config: CacheConfig, device: torch.device, times: Times | None = None
) -> Iterator[UInt8[Tensor, "n f h w 3"]]:
    """The clips as frames, at `times` or evenly spread; a part at a time so that memory holds only a few hundred."""
    times = evenly(len(clips), config, device) if times is None else times
    for part in _parts(len(clips)):
        yield render_at(clips[part], times[part], size=config.size)


def evenly(n: int, config: CacheConfig, device: torch.device) -> Times:
    """The times of `n` clips' frames, spread over the whole of each."""
    return torch.linspace(0, 1, config.frames, device=device).expand(n, -1)


def render_stills(
    clips: Clips, config: CacheConfig, device: torch.device, *, seed: int
) -> UInt8[Tensor, "n h w 3"]:
    """`config.frames` stills of each clip at random times; one painted scene serves them all."""
    times = torch.rand(len(clips), config.frames, generator=Generator().manual_seed(seed)).to(device)
    parts = [
        render_at(
            clips[begin : begin + RENDERED_AT_ONCE], times[begin : begin + RENDERED_AT_ONCE], size=config.size
        )
        for begin in range(0, len(clips), RENDERED_AT_ONCE)
    ]
    return torch.cat(parts).flatten(0, 1)


def subject_cover(
    clips: Clips, config: CacheConfig, device: torch.device, *, side: int, times: Times | None = None
) -> Float[Tensor, "n f g g"]:
    """How much of each of `side` by `side` cells of every frame the clips' subjects cover, in [0, 1]."""
    times = evenly(len(clips), config, device) if times is None else times
    # Half the size costs a quarter, and the mean over a cell hardly sees it.
    size = config.size // 2
    cover = subject_masks_at(clips, times, size=size)
    if (clips.second_subject >= 0).any():
        cover = torch.maximum(cover, subject_masks_at(clips, times, size=size, rank=1))
    return F.avg_pool2d(cover, size // side)


def figure_masks(
    clips: Clips, config: CacheConfig, device: torch.device, *, side: int, times: Times | None = None
) -> UInt8[Tensor, "n f g g"]:
    """The cover of `side` by `side` latent cells in 255ths, each the most of itself and its eight neighbours.

    Wider than the subjects, because an autoencoder spreads their outlines over the cells beside them.
    """
    times = evenly(len(clips), config, device) if times is None else times
    parts = [
        subject_cover(clips[part], config, device, side=side, times=times[part])
        for part in _parts(len(clips))
    ]
    widened = F.max_pool2d(torch.cat(parts), 3, stride=1, padding=1)
    return (widened * 255).round().to(torch.uint8)


def pixels(frames: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Bytes as numbers in [-1, 1], channels innermost in memory."""
    return rearrange(frames, "n h w c -> n c h w").float() / 127.5 - 1


def as_bytes(pictures: Float[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n h w 3"]:
    """Pictures in [-1, 1], clamped, as bytes with channels last."""
    return rearrange(((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8), "n c h w -> n h w c")


def _parts(n: int) -> Iterator[slice]:
    """`n` clips, few enough at a time."""
    return (slice(begin, begin + RENDERED_AT_ONCE) for begin in range(0, n, RENDERED_AT_ONCE))
