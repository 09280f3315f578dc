import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kinescribe.train import judge as training
from kinescribe.train.config import CacheConfig, OptimizerConfig, RunConfig
from kinescribe.train.ranks import join
from kinescribe.world.clip import Clips, sample_clips
from kinescribe.world.judge import Judge
from kinescribe.world.judge_network import JudgeConfig, JudgeNetwork
from kinescribe.world.render import subject_masks

TINY = JudgeConfig(size=32, frames=4, widths=(8, 8, 16, 16), groups=4, keypoints=4, codes=2, width=16)
CACHE = CacheConfig(chunk=24, slots=2, first_slots=1, renew_steps=1000, size=32, frames=4, workers=0)


def tiny(folder: Path, steps: int) -> training.JudgeTraining:
    return training.JudgeTraining(
        run=RunConfig(folder=str(folder), seed=5, steps=steps, log_steps=5, device="cpu"),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=5),
        cache=CACHE,
        judge=TINY,
        batch=12,
        tested=8,
    )


def chequered(n: int = 2, side: int = 32) -> torch.Tensor:
    frames = torch.zeros(n, 4, 3, side, side)
    frames[..., ::2, ::2] = 0.8
    return frames


def test_a_run_writes_a_judge_with_its_accuracy(tmp_path: Path) -> None:
    figures = training.train_judge(tiny(tmp_path, 2), join("cpu"))
    card = json.loads((tmp_path / "judge.json").read_text())
    assert set(card["accuracy"]) == set(figures) == {"single", "resting_camera", "worn", "pairs"}
    assert card["training"]["steps"] == 2
    assert Judge.load(tmp_path).network.config == TINY
    assert training.table_of(figures).count("\n") == 5


def test_the_network_learns_a_handful_of_clips_by_heart(tmp_path: Path) -> None:
    stage = training.JudgeStage(tiny(tmp_path, 1), join("cpu"))
    stage.prepare(0)
    optimizer = torch.optim.AdamW(stage.model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    totals = []
    for step in range(60):
        loss = stage.losses(stage.model, step, generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])


def test_one_subject_asks_for_the_whole_frame_and_two_for_its_halves() -> None:
    alone, paired = sample_clips(20, 1, pairs=0.0), sample_clips(20, 1, pairs=1.0)
    one, two = training.labels_of(alone, "cpu"), training.labels_of(paired, "cpu")
    assert one["subject"][:, 0].tolist() == alone.subject.tolist()
    assert bool((one["subject"][:, 1:] == -1).all())
    assert bool((two["colour"][:, 0] == -1).all())
    halves = two["subject"][:, 1:].sort(1).values.numpy()
    assert (halves == np.sort(np.stack([paired.subject, paired.second_subject], 1), 1)).all()


def test_the_left_label_is_the_subject_on_the_left() -> None:
    clips = sample_clips(12, 4, pairs=1.0)
    labels = training.labels_of(clips, "cpu")
    cover = subject_masks(clips, size=32, frames=3)[:, 1]
    first_left = cover[:, :, :16].sum((1, 2)) > cover[:, :, 16:].sum((1, 2))
    expected = np.where(first_left.numpy(), clips.subject, clips.second_subject)
    assert labels["subject"][:, 1].tolist() == expected.tolist()


def test_wear_keeps_range_and_names_of_colours() -> None:
    frames = chequered()
    soft = training.worn(frames, torch.Generator().manual_seed(0), share=1.0)
    assert float(soft.abs().max()) <= 1
    assert not torch.equal(soft, frames)
    drift = (soft.mean((1, 3, 4)) - frames.mean((1, 3, 4))).abs()
    assert float(drift.max()) < 0.15


def test_no_wear_leaves_frames_as_they_are() -> None:
    frames = chequered()
    assert torch.equal(training.worn(frames, torch.Generator().manual_seed(0), share=0.0), frames)


def test_wear_follows_its_generator() -> None:
    first, again = (training.worn(chequered(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)


def test_right_answers_of_pairs_need_both_halves() -> None:
    clips = sample_clips(2, 6, pairs=1.0)
    labels = training.labels_of(clips, "cpu")
    torch.manual_seed(0)
    verdict = Judge(JudgeNetwork(TINY))(torch.zeros(2, 4, 32, 32, 3, dtype=torch.uint8))
    halves = {
        side: dataclasses.replace(
            getattr(verdict, side), subject=labels["subject"][:, k], colour=labels["colour"][:, k]
        )
        for k, side in enumerate(("left", "right"), 1)
    }
    good = dataclasses.replace(verdict, **halves)
    assert training.right_answers(good, clips)["subject"].all()
    swapped = dataclasses.replace(verdict, left=halves["right"], right=halves["left"])
    assert not training.right_answers(swapped, clips)["subject"].any()


def test_masks_cover_both_subjects() -> None:
    clips = sample_clips(3, 8, pairs=1.0)
    table = clips.labels() | {"second_subject": np.full(3, -1), "second_colour": np.full(3, -1)}
    both, first = (training._masks(c, CACHE, torch.device("cpu")) for c in (clips, Clips(**table)))
    assert both.shape == (3, 4, 4, 4)
    assert int(both.sum()) > int(first.sum())


def test_the_standard_set_up_leaves_time_to_finish(tmp_path: Path) -> None:
    config = training.standard(tmp_path, minutes=3.5)
    assert config.run.minutes is not None
    assert config.run.minutes * 60 + training.RESERVE_SECONDS == pytest.approx(210)
