"""How fast a full-size model comes from files to the device: seconds of `kinescribe.load`, gigabytes a second.

    python benchmarks/load.py [FOLDER] [--runs 3] [--out FILE]

Each run is a process of its own, which opens the device before the clock starts; the run before the first has read
the files once, so that they lie in the page cache. Without FOLDER one of random numbers is written and removed again.

The stages, whose seconds are the medians of the runs: `imports` of our modules, those left after the ones that this
script needs; `configurations`, read and turned into tables of names and shapes; `headers` of the weight files, checked;
the `tokenizer`; `networks`, their modules without numbers; `weights`, read, copied to the device and checked; the
`layout` of weights there, as far as the processor asks for it; and the `rest`, in which the device finishes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from pkgutil import resolve_name
from statistics import median
from typing import Any

import torch

import kinescribe
from kinescribe.perf.machine import machine
from kinescribe.perf.measure import finish
from make_random_folder import make_random_folder

LOADING, OPENING = "kinescribe.pipelines.load", "kinescribe.checkpoints.load"
STAGES = {
    "configurations": ((LOADING, "describe"), (OPENING, "describe")),
    "headers": ((OPENING, "open_weights"), ("kinescribe.checkpoints.source.Part", "matched")),
    "tokenizer": (("kinescribe.checkpoints.source.TokenizerFiles", "load"),),
    "networks": ((OPENING, "_network"),),
    "weights": ((OPENING, "_filled"),),
    "layout": (("kinescribe.models.unet.UNet", "lay_together"), (LOADING, "lay_channels_last")),
}
"""Functions whose time is that of a stage; none of them calls another."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(seconds_of_stages(options.folder, options.device)))
    elif options.folder is not None:
        tell(options.folder, options)
    else:
        with tempfile.TemporaryDirectory() as place:
            tell(make_random_folder(Path(place) / "model", device=options.device), options)


def seconds_of_stages(folder: Path, device: str) -> dict[str, float]:
    """From files to a pipeline whose weights are on the device: the seconds of each stage, in order."""
    place = torch.device(device)
    torch.ones(1, device=place)
    finish(place)
    begin = time.perf_counter()
    load = kinescribe.load
    seconds = defaultdict(float, imports=time.perf_counter() - begin)
    for stage, functions in STAGES.items():
        for owner, function in functions:
            watch(owner, function, stage, seconds)
    again = time.perf_counter()
    load(folder, device=device)
    finish(place)
    whole = time.perf_counter() - again
    return {**seconds, "rest": whole + seconds["imports"] - sum(seconds.values())}


def watch(owner: str, name: str, stage: str, seconds: dict[str, float]) -> None:
    """From now on add the time that a function of a module or class takes to the seconds of a stage."""
    place = resolve_name(owner)
    function = getattr(place, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds[stage] += time.perf_counter() - begin

    setattr(place, name, timed)


def tell(folder: Path, options: argparse.Namespace) -> None:
    """The figures of a folder."""
    command = [sys.executable, __file__, str(folder), "--device", options.device, "--one"]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(options.runs + 1)
    ]
    seconds = [sum(stages.values()) for stages in runs]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    result = {
        **machine(torch.device(options.device)),
        "gigabytes": size / 1e9,
        "first_seconds": seconds[0],
        "load_seconds": seconds[1:],
        "gigabytes_a_second": size / 1e9 / median(seconds[1:]),
        "stage_seconds": {name: median(stages.get(name, 0) for stages in runs[1:]) for name in runs[-1]},
    }
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
