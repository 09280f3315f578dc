"""Rows of the comparison: what each side tells of its work, and the table that is made of all of them."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from kinescribe.perf.measure import Times, peak_bytes

SIDES = {
    "ours": "Kinescribe",
    "plain": "Kinescribe, networks as built",
    "diffusers": "diffusers, eager",
    "compiled": "diffusers, compiled",
    "modelscope": "ModelScope",
}


def clip_row(
    device: torch.device, first: float, clips: Sequence[float], steps: Sequence[float]
) -> dict[str, Any]:
    """Whole clips: the first of the process, then those that count, and each of their steps, in seconds."""
    return {
        "what": "clip",
        "first_clip_seconds": first,
        "clip_seconds": list(clips),
        "seconds_per_clip": median(clips),
        **_steps(steps),
        **_memory(device),
    }


def step_row(device: torch.device, first: float, steps: Sequence[float]) -> dict[str, Any]:
    """Single steps; ``first`` are the seconds to the end of the second step of the process."""
    return {"what": "step", "first_steps_seconds": first, **_steps(steps), **_memory(device)}


def decode_row(device: torch.device, times: Times) -> dict[str, Any]:
    """Latents to frames on the host."""
    return {
        "what": "decode",
        "decode_seconds": list(times.seconds),
        "ms_per_decode": 1000 * times.median,
    } | _memory(device)


def _steps(steps: Sequence[float]) -> dict[str, Any]:
    return {"ms_per_step": 1000 * median(steps), "step_ms_spread": [1000 * min(steps), 1000 * max(steps)]}


def _memory(device: torch.device) -> dict[str, Any]:
    reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    return {"peak_gib": peak_bytes(device) / 2**30, "reserved_gib": reserved / 2**30}


def markdown(result: dict[str, Any]) -> str:
    """The whole comparison as a table."""
    if not result["rows"]:
        return "\n".join(f"not run: {name}: {why}" for name, why in result["not_run"].items()) + "\n"
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"{result['date']}, {result['device']}, {versions}; random weights, {result['dtype']}",
        "",
        "| work | side | s/clip | ms/step | decode ms | of the floor | peak GiB | first clip s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in result["rows"]]
    lines += [f"\nnot run: {name}: {why}" for name, why in result["not_run"].items()]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    def number(name: str, form: str) -> str:
        return format(row[name], form) if row.get(name) is not None else ""

    limit = f", limit of {row['limit_gib']:g} GiB, {row['steps']} steps" if "limit_gib" in row else ""
    cells = (
        f"{row['case']}, {row['frames']} x {row['width']} x {row['height']}{limit}",
        SIDES[row["side"]],
        number("seconds_per_clip", ".3f"),
        number("ms_per_step", ".1f"),
        number("ms_per_decode", ".1f"),
        number("share_of_floor", ".0%"),
        number("peak_gib", ".2f"),
        number("first_clip_seconds", ".1f"),
    )
    return f"| {' | '.join(cells)} |"
