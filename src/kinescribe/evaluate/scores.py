"""From verdicts to figures: shares with their 95 % intervals, and which answers are mistaken for which. No model."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from kinescribe.evaluate.prompts import Asked
from kinescribe.world.clip import Sprite
from kinescribe.world.judge import Verdict

ATTRIBUTES = ("subject", "colour", "scene", "time", "motion", "camera")
FOUR = ("subject", "colour", "scene", "motion")
ShareTable = dict[str, float | int | None]


@dataclass(frozen=True)
class Judged:
    """Clips with what was asked of them, what the judge saw, and what is right (1; wrong 0, not asked -1)."""

    asked: Sequence[Asked]
    clips: UInt8[np.ndarray, "n f h w 3"]
    verdict: Verdict
    right: dict[str, Int[np.ndarray, " n"]]


@dataclass(frozen=True)
class Share:
    """`right` of `total`, and the 95 % interval of the share behind it (Wilson, 1927)."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; not a number if nothing was asked."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        if not self.total:
            return 0.0, 1.0
        z = 1.959964
        n, p = self.total, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def as_dict(self) -> ShareTable:
        """Plain numbers for JSON, which has no word for "not a number"."""
        low, high = self.interval
        share = self.value if self.total else None
        return {"right": self.right, "total": self.total, "share": share, "low": low, "high": high}


def answers_right(verdict: Verdict, asked: Sequence[Asked]) -> dict[str, Int[np.ndarray, " n"]]:
    """For each attribute 1 where the answer is what was asked for, 0 where not, -1 where it was left open."""
    table = {}
    for name in ATTRIBUTES:
        wanted = np.array([-1 if (value := getattr(item, name)) is None else value for item in asked])
        seen = getattr(verdict, name).numpy()
        table[name] = np.where(wanted < 0, -1, (seen == wanted).astype(np.int64))
    return table


def shares(right: Mapping[str, Int[np.ndarray, " n"]]) -> dict[str, Share]:
    """The share of right answers among those asked for; "four" counts subject, colour, scene and motion together.

    "four" is taken over the prompts that name all four.
    """
    found = {name: _share(row) for name, row in right.items()}
    four = np.stack([right[name] for name in FOUR])
    found["four"] = _share(np.where((four < 0).any(0), -1, four.min(0)))
    return found


def _share(row: Int[np.ndarray, " n"]) -> Share:
    return Share(int((row == 1).sum()), int((row >= 0).sum()))


def asked_all_right(right: Mapping[str, Int[np.ndarray, " n"]]) -> Bool[np.ndarray, " n"]:
    """Whether everything a prompt asked for is right."""
    return np.asarray(np.stack([row != 0 for row in right.values()]).all(0))


def by_value(
    right: Int[np.ndarray, " n"], wanted: Sequence[int | None], names: Sequence[str]
) -> dict[str, Share]:
    """The share of right answers for each value that was asked for."""
    rows: dict[str, list[int]] = {name: [] for name in names}
    for good, value in zip(right, wanted, strict=True):
        if value is not None:
            rows[names[value]].append(int(good))
    return {name: Share(sum(row), len(row)) for name, row in rows.items()}


def confusions(
    wanted: Sequence[int | None], seen: Sequence[int], names: Sequence[str], *, most: int = 12
) -> list[tuple[str, str, int]]:
    """The commonest mistakes as (asked, seen, how often)."""
    pairs = [(w, s) for w, s in zip(wanted, seen, strict=True) if w is not None and w != s]
    return [(names[w], names[s], count) for (w, s), count in Counter(pairs).most_common(most)]


def pair_shares(verdict: Verdict, asked: Sequence[Asked]) -> dict[str, Share]:
    """What two-subject prompts got, whichever side each subject stands on.

    "either": one of the two is there with its colour; "both": both are; "subjects", "colours": both kinds, both
    colours are there, though perhaps swapped; "bound": both, among those with both kinds; "two seen": the judge
    sees two.
    """
    found: dict[str, list[bool]] = {}
    bound = []
    for i, item in enumerate(asked):
        if item.clip is None or item.clip.second is None:
            continue
        wanted = {Sprite(item.clip.subject, item.clip.colour), item.clip.second}
        seen = [Sprite(int(half.subject[i]), int(half.colour[i])) for half in (verdict.left, verdict.right)]
        facts = {
            "either": bool(wanted & set(seen)),
            "both": wanted == set(seen),
            "subjects": {s.subject for s in wanted} == {s.subject for s in seen},
            "colours": {s.colour for s in wanted} == {s.colour for s in seen},
            "two seen": int(verdict.count[i]) == 2,
        }
        for name, fact in facts.items():
            found.setdefault(name, []).append(fact)
        if facts["subjects"]:
            bound.append(facts["both"])
    return {name: Share(sum(row), len(row)) for name, row in {**found, "bound": bound}.items()}
