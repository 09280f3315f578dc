"""Ours beside diffusers and ModelScope's own loop on one machine, back to back: one JSON, one table.

    python benchmarks/peers.py --modelscope modelscope-1.40.2-py3-none-any.whl --out benchmarks/results/NAME.json
    python benchmarks/peers.py --cases t2v --sides ours,diffusers --runs 5
    python benchmarks/peers.py --tiny            # does everything run? On a CPU; tells nothing of speed

Random full-size weights, drawn on the device, the same for every side; equal steps, guidance, shapes and number
format; from embeddings to uint8 frames on the host. Every entry runs in a process of its own, so that memory is its
own and one that fails stops no other. `--budget` bounds the whole: what would not fit is left out, and named; the most
important entries come first. Needs this package on the path, `pip install .[bench]` for diffusers, and ModelScope's
wheel, which is not installed: four files of it are read.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinescribe.catalog import CATALOG
from kinescribe.perf.demand import Work, decoding
from kinescribe.perf.floor import clip_flops, matrix_speed, step_flops
from kinescribe.perf.machine import machine
from kinescribe.perf.outline import Outline
from peers_models import CASES, TEXT, Case, tiny
from peers_report import markdown

# Case, side, and the seconds that it is given on an H200, by which the budget is kept.
ENTRIES = {
    "t2v": {"ours": 30, "diffusers": 35, "modelscope": 45, "plain": 25, "compiled": 190},
    "i2vgen": {"ours": 35, "diffusers": 35},
    "v2v": {"ours": 60, "modelscope": 45},
    "zeroscope": {"ours": 25, "diffusers": 30},
}
LIMITS = ("t2v:4", "t2v:6", "zeroscope:6", "i2vgen:10", "v2v:8", "v2v:12", "v2v:16")
LIMITED_SECONDS = 40
ORDER = (
    ("t2v", "ours"), ("t2v", "diffusers"), ("t2v", "modelscope"), ("i2vgen", "ours"), ("i2vgen", "diffusers"),
    ("v2v", "ours"), ("v2v", "modelscope"), ("zeroscope", "ours"), ("zeroscope", "diffusers"), ("t2v", "compiled"),
    ("t2v", "plain"),
)  # fmt: skip
KEPT_BACK = 15
"""Seconds for the count of operations and the table."""


def main() -> None:
    """Run what is asked for, entry by entry, and write what came of it."""
    options = arguments()
    if options.entry:
        work(options)
        return
    end = time.monotonic() + options.budget
    result: dict[str, Any] = {"rows": [], "not_run": {}}
    with tempfile.TemporaryDirectory() as folder:
        for case, side, limit, seconds in entries(options):
            name = f"{case}.{side}" + (f".{limit:g}" if limit else "")
            left = end - time.monotonic() - KEPT_BACK
            if left < seconds and not options.tiny:
                result["not_run"][name] = f"{seconds} s are needed, {left:.0f} s of the budget are left"
                continue
            told = run(name, Path(folder), left)
            if "error" in told:
                result["not_run"][name] = told["error"]
                continue
            result = {
                **told["machine"],
                "dtype": told["dtype"],
                "matrix_tflops": told["matrix_tflops"],
                **result,
            }
            result["rows"] += told["rows"]
            keep(result, options.out)
        compare(result, Path(folder))
    with_floors(result, options)
    keep(result, options.out)
    print(markdown(result))


def arguments() -> argparse.Namespace:
    """What to run, how often, for how long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES), help="of " + ", ".join(CASES))
    parser.add_argument(
        "--sides",
        default="ours,diffusers,modelscope",
        help=f"also: plain, compiled ({ENTRIES['t2v']['compiled']} s more)",
    )
    parser.add_argument(
        "--limits", default="", help=f"case:GiB pairs that ours is tried in, such as {','.join(LIMITS)}"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything")
    parser.add_argument("--modelscope", type=Path, help="its wheel, or the folder that it was unpacked into")
    parser.add_argument("--out", type=Path, default=Path("peers.json"))
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16", help="on a GPU")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--entry", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def entries(options: argparse.Namespace) -> list[tuple[str, str, float, float]]:
    """Case, side, limit of memory (0 is none) and expected seconds of all that is asked for, most important first."""
    cases, sides = options.cases.split(","), options.sides.split(",")
    if options.modelscope is None:
        sides = [side for side in sides if side != "modelscope"]
    asked = [
        (case, side, 0.0, ENTRIES[case][side]) for case, side in ORDER if case in cases and side in sides
    ]
    pairs = [pair.split(":") for pair in options.limits.split(",") if pair]
    return asked + [(case, "ours", float(gib), LIMITED_SECONDS) for case, gib in pairs]


def run(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """One entry in a process of its own; its rows, or why there are none."""
    print(f"== {name}", flush=True)
    begin = time.monotonic()
    child = subprocess.Popen([sys.executable, *sys.argv, "--entry", name, "--folder", str(folder)])
    try:
        code = child.wait(max(seconds, 1))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return {"error": f"stopped after {seconds:.0f} s, the rest of the budget"}
    print(f"   {time.monotonic() - begin:.0f} s", flush=True)
    file = folder / f"{name}.json"
    if not file.is_file():
        return {"error": f"its process ended with code {code}"}
    return dict(json.loads(file.read_text(encoding="utf-8")))


def work(options: argparse.Namespace) -> None:
    """In the process of one entry: measure, and leave the rows in a file."""
    device = torch.device("cuda" if torch.cuda.is_available() and not options.tiny else "cpu")
    dtype = torch.float32 if device.type == "cpu" else getattr(torch, options.dtype)
    case, side, *limit = options.entry.split(".")
    try:
        rows, frames = measured(case, side, float(limit[0]) if limit else 0.0, options, device, dtype)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with a peer belongs in the table
        said = " ".join(str(error).split())[:300]
        told: dict[str, Any] = {"error": f"{type(error).__name__}: {said}"}
    else:
        if frames is not None:
            np.save(options.folder / f"{options.entry}.npy", frames)
        told = {
            "machine": machine(device, "diffusers", "transformers", "triton"),
            "dtype": str(dtype).removeprefix("torch."),
            "matrix_tflops": matrix_speed(device, dtype) / 1e12,
            "rows": [{"case": case, "side": side, **sizes(case, options), **row} for row in rows],
        }
    file = options.folder / f"{options.entry}.json"
    file.write_text(json.dumps(told), encoding="utf-8")


def measured(
    name: str, side: str, gib: float, options: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> tuple[list[dict[str, Any]], Any]:
    """The rows of one entry, and the frames of seed 0 where whole clips are made."""
    case, runs = case_of(name, options), options.runs
    if gib:
        import peers_ours

        return [peers_ours.within(case, device, dtype, gib)], None
    if side in ("ours", "plain"):
        import peers_ours

        built = side == "plain"
        if case.whole:
            return peers_ours.whole(case, device, dtype, runs, as_built=built)
        return peers_ours.by_step(case, device, dtype, runs), None
    if side == "modelscope":
        import peers_modelscope

        if case.whole:
            return peers_modelscope.whole(case, device, runs, options.modelscope), None
        return peers_modelscope.by_step(case, device, dtype, runs, options.modelscope), None
    import peers_diffusers

    if case.whole:
        return peers_diffusers.whole(case, device, dtype, runs, compiled=side == "compiled")
    return peers_diffusers.by_step(case, device, dtype, runs), None


def case_of(name: str, options: argparse.Namespace) -> Case:
    """The case of that name, or its small copy."""
    return tiny(CASES[name]) if options.tiny else CASES[name]


def sizes(name: str, options: argparse.Namespace) -> dict[str, int]:
    """What a row is of."""
    case = case_of(name, options)
    return {"frames": case.frames, "height": case.height, "width": case.width, "steps": case.steps}


def compare(result: dict[str, Any], folder: Path) -> None:
    """How far the frames of the others are from ours, of the same noise: mean difference in levels of 255."""
    clips = {path.stem.removeprefix("t2v."): np.load(path).astype(int) for path in folder.glob("t2v.*.npy")}
    ours = clips.pop("ours", None)
    if ours is not None:
        result["mean_level_difference"] = {side: float(np.abs(x - ours).mean()) for side, x in clips.items()}


def with_floors(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Add to every row the least time that its matrix work needs, and the share of it that was reached."""
    for row in result["rows"]:
        case = case_of(row["case"], options)
        model, asked = outline(case), request(case)
        if row["what"] == "decode":
            flops = (case.frames if case.whole else 1) * decoding(model, asked, 1).flops
            seconds = row["ms_per_decode"] / 1000
        elif row["what"] == "clip" and case.whole:
            flops, seconds = clip_flops(model, asked), row["seconds_per_clip"]
        else:
            flops, seconds = step_flops(model, asked), row["ms_per_step"] / 1000
        row["floor_seconds"] = flops / (result["matrix_tflops"] * 1e12)
        row["share_of_floor"] = row["floor_seconds"] / seconds


def outline(case: Case) -> Outline:
    """The sizes of a case's networks."""
    return Outline(
        spec=CATALOG[case.model], unet=case.unet, vae=case.vae, text=TEXT, conditions=case.conditions, vision=None,
        dtype=torch.float16, tower_dtype=torch.float16,
    )  # fmt: skip


def request(case: Case) -> Work:
    """A clip of a case, as it is counted."""
    return Work(
        frames=case.frames, window=case.frames, width=case.width, height=case.height, clips=1, guided=True,
        passes=case.steps, encoded=0,
    )  # fmt: skip


def keep(result: dict[str, Any], out: Path) -> None:
    """Write what there is so far."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(markdown(result) if result["rows"] else "", encoding="utf-8")


if __name__ == "__main__":
    main()
