"""Which kernels a guided step, the decoding or a whole clip of a large model spends its time in, all of them by name.

    python benchmarks/kernels.py t2v [--what step|decode|clip] [--preset fast8] [--dtype bfloat16] [--out FILE]

A case of `peers.py` with random full-size weights on a CUDA device, as users get it, recorded passes and all. Behind
the kernels come the longest pauses between two of them, and the calls to CUDA that the host spent its time in.
"""

import argparse
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from kinescribe.perf.profile import device_work
from kinescribe.pipelines.device import pick_dtype
from kinescribe.pipelines.stages import decode
from peers_models import CASES, start
from peers_ours import events, pipeline


def main() -> None:
    """Profile what is asked for and tell it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--what", choices=["step", "decode", "clip"], default="step")
    parser.add_argument("--preset", default="exact", help="of a text-to-video case")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = prepared(options)
    with torch.inference_mode():
        table = profiled(work, options.runs)
    if options.out is not None:
        options.out.write_text(table, encoding="utf-8")
    print(table)


def prepared(options: argparse.Namespace) -> Callable[[], object]:
    """A step after those that compile and record, or the decoding of a clip (of a frame where only steps are timed)."""
    case, what, device = CASES[options.case], options.what, torch.device("cuda")
    pipe = pipeline(case, device, pick_dtype(options.dtype, device))
    chosen = {} if options.preset == "exact" else {"preset": options.preset}
    if what == "decode":
        next(
            events(case, pipe, 0, case.steps)
        )  # a request plans, and with memory to spare decodings are recorded
        latents = start(case, 0).to(device)
        latents = latents if case.whole else latents[:, :, :1]
        return lambda: decode(pipe.components, latents)
    if what == "clip":
        return lambda: deque(events(case, pipe, 0, case.steps, **chosen), maxlen=1)
    before = 3
    steps = events(case, pipe, 0, max(case.steps, before + 1 + 2 * options.runs), **chosen)
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
    return "\n".join([*lines, "", *pauses(watched.events()), "", *calls(watched.events(), runs)]) + "\n"


def pauses(events: Iterable[FunctionEvent]) -> list[str]:
    """How long the device had nothing to do between the first kernel and the last, and the longest times of it."""
    spans = sorted(
        (event.time_range.start, event.time_range.end, event.name)
        for event in events
        if event.device_type.name != "CPU" and not event.is_user_annotation
    )
    idle, until, last = [], spans[0][0], ""
    for begin, end, name in spans:
        if begin > until and last:
            idle.append((begin - until, until - spans[0][0], f"{last[:60]} .. {name[:60]}"))
        if end > until:
            until, last = end, name
    lines = [
        f"{sum(pause for pause, *_ in idle) / 1000:.2f} ms of pauses in {(until - spans[0][0]) / 1000:.2f} ms"
    ]
    return lines + [
        f"{pause:9.1f} us at {at / 1000:9.2f} ms  {where}" for pause, at, where in sorted(idle)[:-30:-1]
    ]


def calls(events: Iterable[FunctionEvent], runs: int) -> list[str]:
    """What the host waited for or launched, most time first: milliseconds and calls a run."""
    spent: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.device_type.name == "CPU" and event.name.startswith("cu"):
            spent[event.name].append(event.time_range.end - event.time_range.start)
    most = sorted(spent.items(), key=lambda item: -sum(item[1]))[:12]
    return [f"{sum(times) / runs / 1000:9.3f} ms {len(times) / runs:8.1f} x  {name}" for name, times in most]


if __name__ == "__main__":
    main()
