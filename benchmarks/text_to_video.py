"""One clip of the 1.7 B model, ours beside diffusers' on the same folder, in one run on one device.

    python benchmarks/make_random_folder.py FOLDER --device cuda
    python benchmarks/text_to_video.py FOLDER [--runs 5] [--out benchmarks/results/NAME.json]

From the prompt's text to uint8 frames: 25 DPM-Solver++ steps, guidance 9, 16 x 256 x 256, float16, the two
taking turns. Random weights: this proves arithmetic and speed, never picture quality. The floor is the exact
count of matrix operations of the published architecture (254.4 TFLOP a clip) over 790 TFLOP/s, the bfloat16
rate measured on an H200.
"""

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kinescribe

PROMPT = "A panda eating bamboo on a rock."
SETTINGS = {"frames": 16, "width": 256, "height": 256, "steps": 25, "guidance": 9.0}
FLOOR_SECONDS = 254.4 / 790
Make = Callable[[int], np.ndarray]


def start(seed: int) -> torch.Tensor:
    """The noise that both begin with."""
    return torch.randn((1, 4, 16, 32, 32), generator=torch.Generator().manual_seed(seed))


def ours(folder: Path) -> Make:
    """Our pipeline on the folder; seed in, frames ``f h w 3`` out."""
    pipe = kinescribe.load(folder, device="cuda", dtype=torch.float16)
    return lambda seed: pipe(PROMPT, noise=start(seed), sampler="dpmpp_2m", **SETTINGS).frames


def diffusers(folder: Path) -> Make:
    """The pipeline of diffusers on the folder, as its model card says."""
    from diffusers import DPMSolverMultistepScheduler, TextToVideoSDPipeline

    pipe = TextToVideoSDPipeline.from_pretrained(folder, torch_dtype=torch.float16).to("cuda")
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def make(seed: int) -> np.ndarray:
        frames = pipe(
            PROMPT, num_inference_steps=25, guidance_scale=9.0, num_frames=16, height=256, width=256,
            latents=start(seed).half().cuda(),
        ).frames[0]  # fmt: skip
        return (frames * 255).astype(np.uint8)

    return make


def timed(make: Make, seed: int) -> tuple[float, float, np.ndarray]:
    """Seconds, peak GiB allocated, frames."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    frames = make(seed)
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30, frames


def measure(folder: Path, runs: int) -> dict[str, Any]:
    """The whole table; peaks are of each alone, times of the two in turn."""
    makers: dict[str, Make] = {}
    result: dict[str, Any] = {}
    for name, load in (("kinescribe", ours), ("diffusers", diffusers)):
        before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        makers[name] = load(folder)
        torch.cuda.synchronize()
        loaded = time.perf_counter() - start
        first, peak, frames = timed(makers[name], 0)
        result[name] = {
            "load_seconds": loaded, "first_clip_seconds": first, "peak_gib": peak - before / 2**30,
            "mean_level": float(frames.mean()), "times": [],
        }  # fmt: skip
    for run in range(runs):
        frames = {}
        for name, make in makers.items():
            seconds, _, frames[name] = timed(make, run)
            result[name]["times"].append(seconds)
        gap = np.abs(frames["kinescribe"].astype(int) - frames["diffusers"].astype(int))
        result.setdefault("mean_level_difference", []).append(float(gap.mean()))
    for name in makers:
        median = statistics.median(result[name]["times"])
        result[name] |= {
            "seconds": median, "ms_per_step": 1000 * median / 25, "share_of_floor": FLOOR_SECONDS / median,
        }  # fmt: skip
    return result


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from importlib.metadata import version

    result = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(),
        "versions": {
            "kinescribe": kinescribe.__version__,
            "torch": torch.__version__,
            "diffusers": version("diffusers"),
        },
        "python": platform.python_version(),
        **measure(options.folder, options.runs),
    }
    print(f"{'':12} s/clip  ms/step  floor  peak GiB  first clip  load")
    for name in ("kinescribe", "diffusers"):
        row = result[name]
        print(
            f"{name:12} {row['seconds']:6.3f} {row['ms_per_step']:8.1f} {row['share_of_floor']:6.0%} "
            f"{row['peak_gib']:9.2f} {row['first_clip_seconds']:11.2f} {row['load_seconds']:5.1f}"
        )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
