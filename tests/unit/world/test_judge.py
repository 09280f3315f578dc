import dataclasses
from pathlib import Path

import pytest
import torch

from kinescribe.errors import WeightsError
from kinescribe.world.clip import CAMERAS, COLOURS, MOTIONS, SCENES, SUBJECTS, TIMES, sample_clips
from kinescribe.world.judge import (
    ASSETS,
    CARD_FILE,
    SMALL,
    WEIGHTS_FILE,
    Judge,
    JudgeConfig,
    fitted,
    save_judge,
)
from kinescribe.world.judge_network import JudgeNetwork
from kinescribe.world.render import render

TINY = JudgeConfig(size=32, frames=4, widths=(8, 8, 8, 8), groups=4, keypoints=2, codes=2, width=8)


def tiny_judge(seed: int = 0) -> Judge:
    torch.manual_seed(seed)
    return Judge(JudgeNetwork(TINY))


def noise_clips(n: int = 3, f: int = 6, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, f, side, side, 3), generator=generator, dtype=torch.uint8)


def test_every_question_has_one_answer_for_each_entry_of_its_table() -> None:
    answers = tiny_judge().network(torch.zeros(2, 4, 3, 32, 32))
    assert answers.subject.shape == (2, 3, len(SUBJECTS))
    assert answers.colour.shape == (2, 3, len(COLOURS))
    tables = {"scene": SCENES, "time": TIMES, "motion": MOTIONS, "camera": CAMERAS, "count": (1, 2)}
    assert {name: getattr(answers, name).shape for name in tables} == {
        name: (2, len(table)) for name, table in tables.items()
    }


def test_verdict_is_one_id_and_one_probability_a_clip() -> None:
    verdict = tiny_judge()(noise_clips())
    for name in ("subject", "colour", "scene", "time", "motion", "camera", "count"):
        assert getattr(verdict, name).shape == (3,)
        assert bool(((verdict.confidence[name] > 0) & (verdict.confidence[name] <= 1)).all())
    assert set(verdict.count.tolist()) <= {1, 2}
    assert verdict.left.subject.shape == verdict.right.colour.shape == (3,)


def test_verdict_does_not_depend_on_the_batch() -> None:
    judge, clips = tiny_judge(), noise_clips(n=11)
    together, alone = judge(clips), judge(clips[10:])
    torch.testing.assert_close(together.confidence["motion"][10:], alone.confidence["motion"])
    assert together.subject[10:].tolist() == alone.subject.tolist()


@pytest.mark.parametrize(("frames", "side"), [(1, 32), (9, 48), (4, 20)])
def test_clips_of_any_length_and_size_are_fitted(frames: int, side: int) -> None:
    assert fitted(noise_clips(2, frames, side), TINY).shape == (2, 4, 3, 32, 32)


def test_fitting_keeps_first_and_last_frame_and_the_range() -> None:
    clips = torch.zeros(1, 9, 32, 32, 3, dtype=torch.uint8)
    clips[:, -1] = 255
    chosen = fitted(clips, TINY)
    assert float(chosen[:, 0].max()) == -1
    assert float(chosen[:, -1].min()) == 1


def test_a_subject_in_one_half_does_not_change_what_is_seen_in_the_other() -> None:
    network = tiny_judge().network
    regions = network._regions(torch.rand(2, 4, 4, 4))
    assert bool((regions[:, 1, :, :, 2:] == 0).all())
    assert bool((regions[:, 2, :, :, :2] == 0).all())
    torch.testing.assert_close(regions.sum(dim=(2, 3, 4)), torch.ones(2, 3))


def test_saved_judge_answers_as_before_up_to_half_precision(tmp_path: Path) -> None:
    judge, clips = tiny_judge(), noise_clips()
    save_judge(tmp_path, judge.network, {"accuracy": {}})
    again = Judge.load(tmp_path)
    assert again.network.config == TINY
    torch.testing.assert_close(
        judge(clips).confidence["scene"], again(clips).confidence["scene"], atol=1e-3, rtol=0
    )


def test_absent_judge_is_an_error_that_tells_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"kinescribe\.train\.judge"):
        Judge.load(tmp_path)


def test_judge_of_other_sizes_is_an_error(tmp_path: Path) -> None:
    save_judge(tmp_path, tiny_judge().network, {})
    card = tmp_path / CARD_FILE
    card.write_text(card.read_text().replace('"width": 8', '"width": 12'))
    with pytest.raises(WeightsError, match="no usable judge"):
        Judge.load(tmp_path)


def test_shipped_sizes_fit_into_a_megabyte_and_a_half() -> None:
    numbers = sum(parameter.numel() for parameter in JudgeNetwork(SMALL).parameters())
    assert 2 * numbers < 1.5e6
    assert dataclasses.asdict(SMALL)["size"] == 128


@pytest.mark.skipif(not (ASSETS / WEIGHTS_FILE).exists(), reason="the judge has no weights in this checkout")
def test_shipped_judge_is_right_on_true_renders() -> None:
    clips = sample_clips(16, 77, held_out=True, pairs=0.0)
    verdict = Judge.load()(render(clips))
    for name in ("subject", "colour", "scene", "time", "motion", "camera"):
        wrong = int((getattr(verdict, name).numpy() != getattr(clips, name)).sum())
        assert wrong <= 1, name
