"""How fast a full-size model comes from files to the device: seconds of `kinescribe.load`, gigabytes a second.

    python benchmarks/load.py [FOLDER] [--runs 3] [--out FILE]

Each run is a process of its own, which opens the device before the clock starts; the run before the first has read
the files once, so that they lie in the page cache. Without FOLDER one of random numbers is written and removed again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

import kinescribe
from kinescribe.perf.machine import machine
from kinescribe.perf.measure import finish
from make_random_folder import make_random_folder


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
        print(seconds_to_load(options.folder, options.device))
    elif options.folder is not None:
        tell(options.folder, options)
    else:
        with tempfile.TemporaryDirectory() as place:
            tell(make_random_folder(Path(place) / "model", device=options.device), options)


def seconds_to_load(folder: Path, device: str) -> float:
    """From files to a pipeline whose weights are on the device."""
    place = torch.device(device)
    torch.ones(1, device=place)
    finish(place)
    begin = time.perf_counter()
    kinescribe.load(folder, device=device)
    finish(place)
    return time.perf_counter() - begin


def tell(folder: Path, options: argparse.Namespace) -> None:
    """The figures of a folder."""
    command = [sys.executable, __file__, str(folder), "--device", options.device, "--one"]
    seconds = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        for _ in range(options.runs + 1)
    ]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    result = {
        **machine(torch.device(options.device)),
        "gigabytes": size / 1e9,
        "first_seconds": seconds[0],
        "load_seconds": seconds[1:],
        "gigabytes_a_second": size / 1e9 / median(seconds[1:]),
    }
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
