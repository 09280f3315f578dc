"""Which kernels a guided step or the decoding of a large model spends its time in, all of them by name.

    python benchmarks/kernels.py t2v [--what step|decode] [--runs 4] [--out FILE]

A case of `peers.py` with random full-size weights on a CUDA device, as users get it, recorded passes and all.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity

from kinescribe.perf.profile import device_work
from kinescribe.pipelines.stages import decode
from peers_models import CASES, start
from peers_ours import events, pipeline


def main() -> None:
    """Profile what is asked for and tell it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--what", choices=["step", "decode"], default="step")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with torch.inference_mode():
        table = profiled(prepared(options.case, options.what, options.runs), options.runs)
    if options.out is not None:
        options.out.write_text(table, encoding="utf-8")
    print(table)


def prepared(name: str, what: str, runs: int) -> Callable[[], object]:
    """A step after those that compile and record, or the decoding of a clip (of a frame where only steps are timed)."""
    case, device = CASES[name], torch.device("cuda")
    pipe = pipeline(case, device, torch.float16)
    if what == "decode":
        latents = start(case, 0).to(device)
        latents = latents if case.whole else latents[:, :, :1]
        return lambda: decode(pipe.components, latents)
    before = 3
    steps = events(case, pipe, 0, max(case.steps, before + 1 + 2 * runs))
    for _ in range(before):
        next(steps)
    return lambda: next(steps)


def profiled(work: Callable[[], object], runs: int) -> str:
    """Milliseconds a run by the clock of the device, then kernels: time a run, launches a run, time a launch, name."""
    work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(runs):
        work()
    end.record()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        for _ in range(runs):
            work()
        torch.cuda.synchronize()
    spent: dict[str, list[float]] = defaultdict(list)
    for kernel, _, seconds in device_work(watched.events()):
        spent[kernel].append(seconds)
    whole = sum(map(sum, spent.values()))
    lines = [f"{begin.elapsed_time(end) / runs:.2f} ms a run; {1000 * whole / runs:.2f} ms in kernels"]
    for kernel, times in sorted(spent.items(), key=lambda item: -sum(item[1])):
        total, count = sum(times), len(times)
        lines.append(
            f"{1000 * total / runs:9.3f} ms {count / runs:8.1f} x {1e6 * total / count:9.1f} us  {kernel[:160]}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
