import dataclasses
import math

import numpy as np
import pytest
import torch

from kinescribe.evaluate import scores
from kinescribe.evaluate.prompts import Asked, held_out_prompts
from kinescribe.evaluate.scores import Share
from kinescribe.world.judge import Sprites, Verdict


def verdict_of(asked: list[Asked]) -> Verdict:
    """A verdict that is right in everything."""
    fields = {
        name: torch.tensor([getattr(item, name) or 0 for item in asked])
        for name in ("subject", "colour", "scene", "time", "motion", "camera")
    }
    first = [item.clip for item in asked if item.clip is not None]
    second = [clip.second or clip for clip in first]
    halves = [
        Sprites(torch.tensor([s.subject for s in row]), torch.tensor([s.colour for s in row]))
        for row in (second, first)
    ]
    return Verdict(
        **fields, count=torch.full((len(asked),), 2), left=halves[0], right=halves[1], confidence={}
    )


@pytest.mark.parametrize(
    ("right", "total", "low", "high"), [(450, 500, 0.8706, 0.9234), (0, 10, 0.0, 0.2775)]
)
def test_interval_is_wilsons(right: int, total: int, low: float, high: float) -> None:
    assert Share(right, total).interval == pytest.approx((low, high), abs=2e-3)


def test_nothing_asked_is_no_share() -> None:
    assert math.isnan(Share(0, 0).value)
    assert Share(0, 0).interval == (0.0, 1.0)


def test_right_verdicts_score_full_marks() -> None:
    asked = held_out_prompts(20, 1)
    found = scores.shares(scores.answers_right(verdict_of(asked), asked))
    assert {name: share.value for name, share in found.items()} == {
        name: 1.0 for name in (*scores.ATTRIBUTES, "four")
    }
    assert found["camera"].total < 20


def test_one_wrong_answer_spoils_the_four() -> None:
    asked = held_out_prompts(10, 2)
    verdict = verdict_of(asked)
    wrong = dataclasses.replace(verdict, colour=(verdict.colour + torch.tensor([1] + 9 * [0])) % 10)
    found = scores.shares(scores.answers_right(wrong, asked))
    assert (found["colour"].right, found["subject"].right, found["four"].right) == (9, 10, 9)


def test_what_a_prompt_leaves_open_is_not_counted() -> None:
    asked = [Asked(prompt="a cat", subject=10), Asked(prompt="a red cat", subject=10, colour=0)]
    verdict = verdict_of(held_out_prompts(2, 1))
    verdict = dataclasses.replace(verdict, subject=torch.tensor([10, 10]), colour=torch.tensor([3, 3]))
    right = scores.answers_right(verdict, asked)
    assert right["colour"].tolist() == [-1, 0]
    assert scores.shares(right)["four"].total == 0
    assert scores.asked_all_right(right).tolist() == [True, False]


def test_shares_by_value_and_commonest_mistakes() -> None:
    names = ("a", "b", "c")
    table = scores.by_value(np.array([1, 0, 0]), [0, 0, 2], names)
    assert (table["a"].right, table["a"].total, table["b"].total, table["c"].right) == (1, 2, 0, 0)
    assert scores.confusions([0, 0, 2, None], [1, 1, 2, 0], names) == [("a", "b", 2)]


def test_pairs_count_whichever_side_they_stand_on() -> None:
    asked = held_out_prompts(8, 3, pairs=True)
    verdict = verdict_of(asked)
    turned = dataclasses.replace(verdict, left=verdict.right, right=verdict.left)
    for seen in (verdict, turned):
        assert {share.value for share in scores.pair_shares(seen, asked).values()} == {1.0}


def test_swapped_colours_are_found_but_not_bound() -> None:
    asked = held_out_prompts(8, 3, pairs=True)
    verdict = verdict_of(asked)
    swapped = dataclasses.replace(
        verdict,
        left=Sprites(verdict.left.subject, verdict.right.colour),
        right=Sprites(verdict.right.subject, verdict.left.colour),
    )
    found = {name: share.value for name, share in scores.pair_shares(swapped, asked).items()}
    assert found["subjects"] == found["colours"] == 1
    assert found["both"] == found["bound"] == found["either"] == 0
