"""The figures of an examination as plain data for JSON, and as a page in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from kinescribe.evaluate import scores
from kinescribe.evaluate.scores import Judged, Share, ShareTable
from kinescribe.world.clip import CAMERAS, COLOURS, MOTIONS, SCENES, SUBJECTS, TIMES

NAMES = {
    "subject": SUBJECTS, "colour": COLOURS, "scene": SCENES, "time": TIMES, "motion": MOTIONS, "camera": CAMERAS,
}  # fmt: skip
ROWS = {
    "held_out": "generated",
    "resting_camera": "generated, resting camera",
    "plain": "plain English",
    "truth": "true renders (the judge's own limit)",
}


def shares(found: Mapping[str, Share]) -> dict[str, ShareTable]:
    """Shares as plain numbers."""
    return {name: share.as_dict() for name, share in found.items()}


def single(part: Judged) -> dict[str, Any]:
    """Shares, and for each attribute the share by value and the commonest mistakes."""
    by_value, mistakes = {}, {}
    for name in scores.ATTRIBUTES:
        wanted = [getattr(item, name) for item in part.asked]
        by_value[name] = shares(scores.by_value(part.right[name], wanted, NAMES[name]))
        mistakes[name] = scores.confusions(wanted, getattr(part.verdict, name).tolist(), NAMES[name])
    return {"shares": shares(scores.shares(part.right)), "by_value": by_value, "mistakes": mistakes}


def everything(part: Judged) -> ShareTable:
    """The share of prompts of which everything asked for is right."""
    good = scores.asked_all_right(part.right)
    return Share(int(good.sum()), len(good)).as_dict()


def as_markdown(figures: Mapping[str, Any]) -> str:
    """The page: shares with intervals, pairs, movement, and where the model goes wrong."""
    making = figures["making"]
    lines = [
        f"# {figures['model']['source']} ({figures['model']['hash']})", "",
        f"{making['count']} held-out prompts, {making['sampler']}, {making['steps']} steps, guidance "
        f"{making['guidance']:g}, seed {making['seed']}; {figures['clips_per_second']:.1f} clips a second, "
        "made and judged. "
        "Per cent right, 95 % interval in brackets.", "",
    ]  # fmt: skip
    lines += share_rows({title: figures[key]["shares"] for key, title in ROWS.items()})
    lines += [
        "",
        f"Plain English, everything asked for right: {cell(figures['plain']['everything_asked'])}",
        "",
    ]
    lines += heading(("two subjects", *figures["pairs"]))
    for key, title in (("pairs", "generated"), ("true_pairs", "true renders")):
        lines.append(f"| {title} | " + " | ".join(cell(share) for share in figures[key].values()) + " |")
    lines += ["", *heading(("movement", *figures["movement"]["made"]))]
    for kind, row in figures["movement"].items():
        lines.append(f"| {kind} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    return "\n".join([*lines, "", *_faults(figures["held_out"])]) + "\n"


def share_rows(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table of shares, a row for each kind of clips."""
    columns = (*scores.ATTRIBUTES, "four")
    rows = (
        f"| {title} | " + " | ".join(cell(found[name]) for name in columns) + " |"
        for title, found in parts.items()
    )
    return [*heading(("clips", *columns)), *rows]


def grid_table(rows: Sequence[Mapping[str, float]]) -> str:
    """The grid in per cent, the best row by "four" last."""
    names = [name for name in rows[0] if name not in ("steps", "guidance")]
    lines = heading(("steps", "guidance", *names))
    best = max(rows, key=lambda row: row["four"])
    for row in (*rows, best):
        figures = " | ".join(f"{100 * row[name]:.1f}" for name in names)
        lines.append(f"| {row['steps']:.0f} | {row['guidance']:g} | {figures} |")
    return "\n".join(lines) + "\n"


def _faults(part: Mapping[str, Any]) -> list[str]:
    lines = []
    for name in ("subject", "colour", "motion"):
        asked_for = [
            (value, 100 * row["share"]) for value, row in part["by_value"][name].items() if row["total"]
        ]
        weakest = sorted(asked_for, key=lambda item: item[1])
        lines += [
            f"{name}, weakest first: " + ", ".join(f"{value} {share:.0f}" for value, share in weakest),
            "",
        ]
        told = ", ".join(f"{asked} as {seen} ({count})" for asked, seen, count in part["mistakes"][name])
        lines += [f"{name}, mistaken: {told or 'none'}", ""]
    return lines


def heading(names: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def cell(share: Mapping[str, Any]) -> str:
    """A share in per cent with its interval."""
    if not share["total"]:
        return "-"
    return f"{100 * share['share']:.1f} ({100 * share['low']:.1f}-{100 * share['high']:.1f})"
