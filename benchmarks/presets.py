"""What each preset gains and what it changes: seconds a clip, and how far its latents are from the exact ones.

    python benchmarks/presets.py [--presets reuse,fast8,reuse+fast8] [--runs 5] [--tiny] --out FILE

The case `t2v` of `peers.py`, a model of random full-size weights, from embeddings to frames. The error is the root mean
square of the difference of the last latents over that of the exact ones, of the same seed, the median over the seeds.
Exact clips are timed before and after all others. A preset that this device does not have is named with its reason.
The pages take the file benchmarks/results/DATE_DEVICE_presets.json.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from kinescribe.errors import OptionError
from kinescribe.perf.machine import machine
from kinescribe.pipelines.denoise import Step
from kinescribe.pipelines.device import pick_device, pick_dtype
from peers_models import CASES, GUIDANCE, Case, tiny
from peers_ours import clips, events, pipeline


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="reuse,fast8,reuse+fast8")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--tiny", action="store_true", help="whether it runs, and nothing of speed")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    case = tiny(CASES["t2v"]) if options.tiny else CASES["t2v"]
    rows, not_run = measured(case, options.presets.split(","), options.runs, device, dtype)
    result = {
        **machine(device, "triton"),
        "dtype": str(dtype).removeprefix("torch."),
        "frames": case.frames, "height": case.height, "width": case.width, "steps": case.steps,
        "guidance": GUIDANCE, "rows": rows, "not_run": not_run,
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['preset']}: {row['seconds_per_clip']:.3f} s, {row['times_as_fast']:.2f} times as fast, "
            f"latent error {row['latent_error']:.4f}"
        )
    for preset, why in not_run.items():
        print(f"{preset}: not run: {why}")


def measured(
    case: Case, presets: list[str], runs: int, device: torch.device, dtype: torch.dtype
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for each preset, and why others have none."""
    pipe, not_run = pipeline(case, device, dtype), {}
    clip = clips(case, pipe, device, dtype)
    seconds: dict[str, list[float]] = {}
    latents: dict[str, list[list[Tensor]]] = {}
    for preset in ["exact", *presets, "exact"]:
        try:
            clip(0, preset=preset)  # kernels are compiled and passes recorded
        except OptionError as error:
            not_run[preset] = str(error)
            continue
        walks = [clip(seed, preset=preset) for seed in range(runs)]
        seconds.setdefault(preset, []).extend(walk.seconds for walk in walks)
        found = [last_latents(case, pipe, seed, preset) for seed in range(runs)]
        latents.setdefault(preset, []).append(found)
    exact = median(seconds["exact"])
    rows = [
        {
            "preset": preset, "clip_seconds": times, "seconds_per_clip": median(times),
            "times_as_fast": exact / median(times),
            "latent_error": median(map(relative, latents[preset][-1], latents["exact"][0])),
        }
        for preset, times in seconds.items()
    ]  # fmt: skip
    return rows, not_run


def last_latents(case: Case, pipe: Any, seed: int, preset: str) -> Tensor:
    """What is decoded to the clip."""
    steps = [
        event.latents
        for event in events(case, pipe, seed, case.steps, preset=preset)
        if isinstance(event, Step)
    ]
    return steps[-1].float().cpu()


def relative(near: Tensor, exact: Tensor) -> float:
    """The root mean square of the difference over that of ``exact``."""
    return float((near - exact).norm() / exact.norm())


if __name__ == "__main__":
    main()
