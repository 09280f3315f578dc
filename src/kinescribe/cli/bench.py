"""`kinescribe bench`: how fast a model makes clips on this machine, beside what the device could do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import DEFAULT_MODEL
from kinescribe.cli import flags
from kinescribe.cli.engine import Pipeline
from kinescribe.cli.progress import display
from kinescribe.cli.terminal import Speaker, Terminal, drawn
from kinescribe.errors import OptionError, WriteError
from kinescribe.options import TextToVideo

PROMPT = "a red balloon rising over the sea at sunset"
MEASURED = ("frames", "width", "height", "steps", "guidance")
PROFILED_STEPS = 4
"""Two warm up, one is timed, one is watched."""

Runs = Annotated[
    int, Parameter(help="Clips to time, after one that does not count.", converter=flags.whole_number)
]
Output = Annotated[
    str | None, Parameter(name=["--output", "-o"], help="A file that gets every figure as JSON, too.")
]
Profiled = Annotated[
    bool, flags.Flag, Parameter(name="--profile", help="Also show what a step's time goes to.")
]

Start = Callable[..., Iterator[Any]]


@flags.request_flags(
    TextToVideo, leave_out=[name for name in TextToVideo.model_fields if name not in MEASURED]
)
def bench(
    *,
    model: flags.ModelName = DEFAULT_MODEL,
    runs: Runs = 3,
    output: Output = None,
    as_json: flags.AsJson = False,
    profiled: Profiled = False,
    size: flags.Size = None,
    device: flags.Device = "auto",
    dtype: flags.DType = "auto",
    memory: flags.MemoryBudget = "auto",
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Time a model on this machine: seconds a clip and a step, share of the device's speed, memory.

    A model that takes a picture or a clip is given one of random pixels. The floor is the least time in which the
    device could do the clip's matrix products and convolutions.
    """
    if runs < 1:
        raise OptionError(f"--runs {runs}: expected 1 or more")
    asked = flags.with_size(fields, size)
    where = {"device": device, "dtype": dtype, "memory": memory}
    figures = measure(model, asked, runs, where, terminal, profiled=profiled)
    if as_json:
        terminal.data(figures)
    else:
        for line in table(figures):
            terminal.result(line)
    if output is not None:
        try:
            Path(output).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise WriteError(f"{output} cannot be written ({error.strerror}): give another file") from error
        terminal.note(f"figures written to {output}")


def measure(
    model: str,
    fields: dict[str, Any],
    runs: int,
    where: dict[str, str],
    terminal: Terminal,
    *,
    profiled: bool,
) -> dict[str, Any]:
    """Load once, make ``runs`` clips after a first one; every figure, ready for JSON."""
    from kinescribe.perf.machine import machine
    from kinescribe.perf.measure import Times, forget_peak, peak_bytes, timed, walked
    from kinescribe.pipelines.device import pick_device
    from kinescribe.pipelines.load import load

    place = pick_device(where["device"])
    with display(terminal) as shown:
        shown.stage(f"loading {model}")
        loading, pipe = timed(lambda: load(model, **where), place)
        start, walks = starter(pipe, fields), []
        forget_peak(place)
        for run in range(runs + 1):
            shown.stage(f"clip {run + 1} of {runs + 1}" + (", which warms up" if run == 0 else ""))
            walks.append(walked(start(seed=run), place))
        peak = peak_bytes(place)
        if profiled:
            shown.stage("profiling")
        spent = profiled_step(start, pipe, place) if profiled else {}
    first, *counted = walks
    clips = Times(tuple(walk.seconds for walk in counted))
    # The first step also reads the prompt, and what follows the last one decodes.
    steps = Times(tuple(s for walk in counted for s in walk.intervals[1:-1] or walk.intervals[:1]))
    return {
        **machine(place, "triton"),
        "model": pipe.spec.name,
        "dtype": str(pipe.components.dtype).removeprefix("torch."),
        **made(first.last, pipe),
        "load_seconds": loading,
        "first_clip_seconds": first.seconds,
        "clip_seconds": clips.seconds,
        "seconds_per_clip": clips.median,
        "ms_per_step": 1000 * steps.median,
        "peak_gib": peak / 2**30,
        **floor(first.last, pipe, len(first.intervals) - 1, clips.median),
        **spent,
    }


def starter(pipe: Pipeline, fields: dict[str, Any]) -> Start:
    """What begins a clip of a model of any kind; random pixels stand for the picture or the clip it is given."""
    import numpy as np

    spec, frames = pipe.spec, fields.get("frames") or pipe.spec.defaults.frames
    side = (fields.get("height") or spec.defaults.height, fields.get("width") or spec.defaults.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (frames, *side), dtype=np.uint8)
    if spec.picture is not None:
        prompt = PROMPT if spec.picture.takes_text else ""
        return lambda **more: pipe.stream(pixels[0], prompt, **{**fields, **more})
    if spec.kind == "video-to-video":
        whole = {name: value for name, value in fields.items() if name != "frames"} | {"window": frames}
        return lambda **more: pipe.stream(pixels, PROMPT, **{**whole, **more})
    return lambda **more: pipe.stream(PROMPT, **{**fields, **more})


def made(video: Any, pipe: Pipeline) -> dict[str, Any]:
    """What was made, as the recipe of the clip tells it."""
    request = video.recipe["request"]
    told = {name: request[name] for name in ("steps", "guidance", "sampler")}
    width, height = video.size
    return {"kind": pipe.spec.kind, "frames": len(video.frames), "width": width, "height": height, **told}


def floor(video: Any, pipe: Pipeline, steps: int, seconds: float) -> dict[str, Any]:
    """The clip's operations, the device's speed, and the share of it that was reached."""
    from kinescribe.perf.demand import Work
    from kinescribe.perf.floor import clip_flops, matrix_speed
    from kinescribe.perf.outline import loaded
    from kinescribe.pipelines.planning import PASSES_A_STEP

    request = video.recipe["request"]
    components, (width, height), frames = pipe.components, video.size, len(video.frames)
    picture = pipe.spec.picture
    shown = frames if pipe.spec.kind == "video-to-video" else int(picture is not None and picture.first_frame)
    work = Work(
        frames=frames,
        window=frames,
        width=width,
        height=height,
        clips=1,
        guided=request["guidance"] > 1,
        passes=steps * PASSES_A_STEP.get(request["sampler"], 1),
        encoded=shown,
    )
    flops = clip_flops(loaded(components), work)
    speed = matrix_speed(components.device, components.dtype)
    return {
        "clip_tflop": flops / 1e12,
        "matrix_tflops": speed / 1e12,
        "floor_seconds": flops / speed,
        "share_of_floor": flops / speed / seconds,
    }


def profiled_step(start: Start, pipe: Pipeline, place: Any) -> dict[str, Any]:
    """What the time of one step goes to, in milliseconds."""
    from kinescribe.perf.profile import profile

    events = start(seed=0, steps=max(PROFILED_STEPS, pipe.spec.defaults.steps))
    spent = profile(lambda: next(events), place, warmup=2)
    return {
        "profile": {
            "step_ms": 1000 * spent.wall,
            "host_ms": 1000 * spent.host,
            "busy_ms": 1000 * spent.busy,
            "kernels": spent.kernels,
            "groups_ms": {name: 1000 * share.seconds for name, share in spent.groups.items()},
            "longest_ms": {name: 1000 * share.seconds for name, share in spent.longest},
        }
    }


def table(figures: dict[str, Any]) -> Iterator[str]:
    """The figures in lines for people."""
    low, high = min(figures["clip_seconds"]), max(figures["clip_seconds"])
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    yield (
        f"{figures['model']}: {figures['frames']} x {figures['width']} x {figures['height']}, "
        f"{figures['steps']} steps, guidance {figures['guidance']:g}, {figures['sampler']}, {figures['dtype']}"
    )
    yield f"{figures['device']}, {figures['threads']} threads, {figures['date']}, {versions}"
    row = {
        "s/clip": f"{figures['seconds_per_clip']:.3g}",
        "least to most": f"{low:.3g} to {high:.3g}",
        "ms/step": f"{figures['ms_per_step']:.3g}",
        "of the floor": f"{figures['share_of_floor']:.0%}",
        "floor s": f"{figures['floor_seconds']:.3g}",
        "peak GiB": f"{figures['peak_gib']:.2f}",
        "load s": f"{figures['load_seconds']:.1f}",
        "first clip s": f"{figures['first_clip_seconds']:.2f}",
    }
    yield from drawn(list(row), [list(row.values())])
    spent = figures.get("profile")
    if spent:
        yield (
            f"one step, {spent['step_ms']:.3g} ms: asked for in {spent['host_ms']:.3g} ms, "
            f"{spent['kernels']} kernels that take {spent['busy_ms']:.3g} ms under the profiler"
        )
        groups = spent["groups_ms"].items()
        rows = [[name, f"{ms:.3g}", f"{ms / spent['busy_ms']:.0%}"] for name, ms in groups]
        yield from drawn(["what", "ms", "share"], rows)
