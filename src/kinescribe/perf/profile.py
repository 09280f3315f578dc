"""Where the time of a piece of work goes: by kind of operation, on the host and on the device, with torch's profiler.

Work under a profiler is slower than without it, on the host above all: shares are meant, not sums. Wall and host time
are therefore taken in a run of their own, without the profiler.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from kinescribe.perf.measure import finish

# The first group with a word that occurs in a name has it. A kernel that only moves numbers is told before the
# operation that launched it: convolutions launch some.
_MOVES = (
    "nchwtonhwc",
    "nhwctonchw",
    "convert_tensor",
    "memcpy",
    "memset",
    "direct_copy",
    "catarray",
    "_place",
)
_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention", ("attention", "attn", "fmha", "flash", "sdpa")),
    ("norms", ("norm", "moments", "fusedparams", "welford")),
    ("convolutions", ("conv", "fprop", "winograd")),
    (
        "matrix products",
        ("gemm", "addmm", "baddbmm", "::bmm", "::mm", "matmul", "linear", "nvjet", "cutlass", "cublas"),
    ),
    ("copies and layout", ("copy", "::to", "::cat", "contiguous", "clone", "transpose", "reorder", "pad")),
    (
        "element-wise",
        ("elementwise", "vectorized", "pointwise", "unrolled", "triton_poi", "triton_red", "reduce")
        + ("_geglu", "_add_biased", "_quantise")
        + ("::add", "::mul", "::div", "::sub", "::silu", "::gelu", "::softmax", "::sum", "::mean", "::exp")
        + ("::upsample", "::sigmoid", "::neg", "::clamp", "::rsqrt", "::sin", "::cos", "::pow", "::fill"),
    ),
)


@dataclass(frozen=True)
class Share:
    """What one group took: seconds of the device (of the host where that is the device), and how many kernels."""

    seconds: float
    count: int


@dataclass(frozen=True)
class Profile:
    """Where the time went.

    ``wall`` and ``host`` are seconds of a run without the profiler: to its end, and until the host had asked for
    everything. ``busy`` are seconds of work on the device, ``groups`` what they were spent on, most first,
    ``longest`` the ten names that took most.
    """

    wall: float
    host: float
    busy: float
    kernels: int
    groups: dict[str, Share]
    longest: tuple[tuple[str, Share], ...]


def profile(work: Callable[[], object], device: torch.device, *, warmup: int = 1) -> Profile:
    """Profile one run of ``work`` after ``warmup`` runs and one that is timed."""
    for _ in range(warmup):
        work()
    finish(device)
    begin = time.perf_counter()
    work()
    host = time.perf_counter() - begin
    finish(device)
    wall = time.perf_counter() - begin
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with torch.profiler.profile(activities=activities) as watched:
        work()
        finish(device)
    events = watched.events()
    spent = device_work(events) if device.type == "cuda" else host_work(events)
    return summed(spent, wall=wall, host=host)


def summed(spent: Iterable[tuple[str, str, float]], *, wall: float, host: float) -> Profile:
    """A profile of pieces of work: the name of each kernel, the operation that launched it, its seconds."""
    groups: dict[str, Share] = {}
    names: dict[str, Share] = {}
    for kernel, operation, seconds in spent:
        for table, key in ((groups, group_of(kernel, operation)), (names, kernel)):
            before = table.get(key, Share(0.0, 0))
            table[key] = Share(before.seconds + seconds, before.count + 1)
    return Profile(
        wall=wall,
        host=host,
        busy=sum(share.seconds for share in groups.values()),
        kernels=sum(share.count for share in groups.values()),
        groups=dict(_most_first(groups)),
        longest=tuple(_most_first(names)[:10]),
    )


def group_of(kernel: str, operation: str) -> str:
    """The group of a kernel; ``operation`` is empty where nobody knows what launched it, as in a CUDA graph."""
    low = kernel.lower()
    if any(word in low for word in _MOVES):
        return "copies and layout"
    for name in (operation.lower(), low):
        for group, words in _WORDS:
            if any(word in name for word in words):
                return group
    return "other"


def device_work(events: Iterable[FunctionEvent]) -> list[tuple[str, str, float]]:
    """Every kernel that ran on a GPU, beside the operation that launched it."""
    launched: dict[str, list[str]] = {}
    kernels: list[tuple[str, float]] = []
    for event in events:
        if event.device_type.name == "CPU":
            for kernel in event.kernels:
                launched.setdefault(kernel.name, []).append(_operation(event))
        elif not event.is_user_annotation:
            kernels.append((event.name, (event.time_range.end - event.time_range.start) / 1e6))
    return [(name, _commonest(launched.get(name, [])), seconds) for name, seconds in kernels]


def host_work(events: Iterable[FunctionEvent]) -> list[tuple[str, str, float]]:
    """Every operation that a processor ran, less what it asked of others."""
    own = ((event.name, event.self_cpu_time_total / 1e6) for event in events)
    return [(name, name, seconds) for name, seconds in own if "::" in name]


def _operation(event: FunctionEvent) -> str:
    """The nearest operation around a launch that has a name of a library: ``aten::mm``."""
    at: Any = event
    while at is not None and "::" not in at.name:
        at = at.cpu_parent
    return "" if at is None else str(at.name)


def _commonest(names: list[str]) -> str:
    return max(set(names), key=names.count) if names else ""


def _most_first(table: dict[str, Share]) -> list[tuple[str, Share]]:
    return sorted(table.items(), key=lambda item: -item[1].seconds)
