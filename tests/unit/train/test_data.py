from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from kinescribe.train.config import CacheConfig
from kinescribe.train.data import (
    Drawing,
    Ring,
    Scribe,
    draw,
    figure_masks,
    pixels,
    render_clips,
    render_stills,
    subject_cover,
    world_tokenizer,
)
from kinescribe.world.clip import is_held_out, sample_clips
from kinescribe.world.grammar import caption
from kinescribe.world.render import subject_masks

CACHE = CacheConfig(chunk=2, slots=3, first_slots=1, renew_steps=4, size=16, frames=2, workers=0)
DRAWING = Drawing(count=6, captions=2, context_length=48, held_out=False)


def numbered(number: int) -> dict[str, Tensor]:
    return {"x": torch.tensor([10 * number, 10 * number + 1])}


def test_the_cache_grows_and_then_replaces_the_oldest() -> None:
    ring = Ring(CACHE, numbered)
    seen = []
    for step in range(20):
        ring.reach(step)
        seen.append(sorted(set(ring["x"][: len(ring)].tolist())))
    assert seen[0] == [0, 1]
    assert seen[4] == [0, 1, 10, 11]
    assert seen[11] == [0, 1, 10, 11, 20, 21]
    assert seen[12] == [10, 11, 20, 21, 30, 31]


def test_a_cache_taken_up_late_holds_the_same_rows() -> None:
    steady, late = Ring(CACHE, numbered), Ring(CACHE, numbered)
    for step in range(18):
        steady.reach(step)
    late.reach(17)
    assert torch.equal(steady["x"], late["x"])


def test_rows_lie_within_what_is_filled() -> None:
    ring = Ring(CACHE, numbered)
    ring.reach(0)
    assert ring.rows(50, Generator().manual_seed(0)).max() < 2


def test_workers_change_nothing_in_what_is_drawn() -> None:
    alone, helped = Scribe(DRAWING, 5, 1, 0), Scribe(DRAWING, 5, 1, 1)
    try:
        for number in (0, 1):
            one, other = alone.take(number), helped.take(number)
            assert np.array_equal(one.ids, other.ids)
            assert np.array_equal(one.clips.seed, other.clips.seed)
    finally:
        helped.close()


def test_chunks_and_ranks_differ() -> None:
    ids = [Scribe(DRAWING, 5, rank, 0).take(number).ids for rank in (0, 1) for number in (0, 1)]
    assert all(not np.array_equal(ids[0], other) for other in ids[1:])


def test_held_out_combinations_are_kept_apart() -> None:
    for held_out in (False, True):
        clips = draw(replace(DRAWING, held_out=held_out, captions=0), 3).clips
        assert (is_held_out(clips.subject, clips.colour, clips.scene, clips.motion) == held_out).all()


def test_the_tokenizer_knows_every_word_of_many_captions() -> None:
    rng = Random(0)
    clips = sample_clips(100, 0)
    tokens = world_tokenizer(48)([caption(clips[i], rng) for i in range(100)])
    assert not any(tokens.unknown)
    assert not any(tokens.dropped)


def test_rendered_frames_have_the_asked_shapes() -> None:
    clips = sample_clips(3, 0)
    (frames,) = render_clips(clips, CACHE, torch.device("cpu"))
    stills = render_stills(clips, CACHE, torch.device("cpu"), seed=1)
    assert frames.shape == (3, 2, 16, 16, 3)
    assert stills.shape == (6, 16, 16, 3)
    assert pixels(stills).shape == (6, 3, 16, 16)
    assert pixels(stills).min() >= -1 and pixels(stills).max() <= 1


def test_the_cover_of_cells_is_that_of_both_subjects_at_full_size() -> None:
    clips, config = sample_clips(8, 4, pairs=0.5), replace(CACHE, size=128)
    cover = subject_cover(clips, config, torch.device("cpu"), side=16)
    first, second = (subject_masks(clips, size=128, frames=2, rank=rank) for rank in (0, 1))
    full = F.avg_pool2d(torch.maximum(first, second), 8)
    assert (clips.second_subject >= 0).any() and (clips.second_subject < 0).any()
    assert cover.shape == (8, 2, 16, 16)
    assert (cover - full).abs().mean().item() < 0.002
    assert cover.mean().item() == pytest.approx(full.mean().item(), rel=0.01)


def test_figure_masks_are_bytes_that_reach_one_cell_further() -> None:
    clips, config, cpu = sample_clips(4, 4), replace(CACHE, size=64), torch.device("cpu")
    cover = subject_cover(clips, config, cpu, side=8)
    masks = figure_masks(clips, config, cpu, side=8)
    assert masks.dtype == torch.uint8
    assert (masks.float() / 255 >= cover - 1 / 255).all()
    covered, wide = cover > 0.5, masks > 127
    beside = F.max_pool2d(covered.float(), 3, stride=1, padding=1) > 0
    assert torch.equal(wide, beside)
    assert covered.sum() < wide.sum() < wide.numel()
