"""Seconds and memory of a clip on this machine; prints a table and adds a line to benchmarks/results.jsonl.

    python benchmarks/generate.py [--model papercut] [--device auto] [--dtype auto] [--runs 5] [--steps N] ...

Each run is a whole clip at the model's own size with seed i. The first run is told apart: it pays for warming up.
"""

import argparse
import json
import platform
import resource
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

import kinescribe

RESULTS = Path(__file__).with_name("results.jsonl")
PROMPT = "a red balloon rising over the sea at sunset"


def main() -> None:
    """Measure, print, and keep the line."""
    options = arguments()
    line = {**machine(), **measure(options)}
    for name, value in line.items():
        print(f"{name:<22} {value}")
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="papercut")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--frames", type=int)
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Load once, make `runs` clips, each timed to its last frame."""
    begin = time.perf_counter()
    pipe = kinescribe.load(options.model, device=options.device, dtype=options.dtype)
    loaded = time.perf_counter() - begin
    fields = {"steps": options.steps, "frames": options.frames}
    seconds = []
    for seed in range(options.runs):
        begin = time.perf_counter()
        video = pipe(PROMPT, seed=seed, **fields)
        seconds.append(time.perf_counter() - begin)
    settled = seconds[1:] or seconds
    parts = pipe.components
    return {
        "model": pipe.spec.name,
        "device": str(parts.device),
        "dtype": str(parts.dtype).removeprefix("torch."),
        "frames": len(video.frames),
        "size": "x".join(map(str, video.size)),
        "steps": options.steps or pipe.spec.defaults.steps,
        "load_seconds": round(loaded, 2),
        "first_seconds": round(seconds[0], 2),
        "median_seconds": round(median(settled), 2),
        "spread_seconds": [round(min(settled), 2), round(max(settled), 2)],
        "peak_memory_gb": round(peak_memory(parts.device), 2),
    }


def peak_memory(device: torch.device) -> float:
    """Most memory used so far: of the GPU if it worked, else of this process, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    commit = subprocess.run(
        ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "processor": cuda or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kinescribe": kinescribe.__version__,
    }


if __name__ == "__main__":
    main()
