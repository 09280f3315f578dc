"""Our side of the comparison: what `kinescribe.load` hands over, with random numbers in the place of files."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import kinescribe
from kinescribe.catalog import CATALOG
from kinescribe.components import Components
from kinescribe.perf.apply import Applied
from kinescribe.perf.calibration import CONTEXT
from kinescribe.perf.measure import Walk, forget_peak, repeated, walked
from kinescribe.perf.outline import published
from kinescribe.pipelines.load import PIPELINES
from kinescribe.pipelines.stages import decode
from peers_models import GUIDANCE, PROMPT, Case, components, embeddings, start
from peers_report import clip_row, decode_row, step_row

TIMED_STEPS = 4


def pipeline(
    case: Case, device: torch.device, dtype: torch.dtype, *, as_built: bool = False, towers: bool = False
) -> Any:
    """A pipeline as users get it, whatever `load` does to make it fast or fit; ``as_built`` without that."""
    if as_built:
        made = components(case, device, dtype, towers=towers)
        return PIPELINES[made.spec.kind](made)

    def load_components(*_: object, device: torch.device, **__: object) -> Components:
        return components(case, device, dtype, towers=towers)

    in_place = {name: lambda *_, **__: None for name in ("locate", "describe")}
    in_place["outline_of"] = lambda *_: published(CATALOG[case.model], dtype, dtype)
    with patch.multiple("kinescribe.pipelines.load", load_components=load_components, **in_place):
        return kinescribe.load(case.model, device=str(device), dtype=dtype)


def events(case: Case, pipe: Any, seed: int, steps: int, **more: Any) -> Iterator[Any]:
    """A clip of a case, step by step; random pixels are the picture or the clip that goes in."""
    asked = {
        "width": case.width,
        "height": case.height,
        "steps": steps,
        "seed": seed,
        "negative_prompt": "",
    } | more
    pixels = np.random.default_rng(0).integers(0, 256, (case.frames, 256, 448, 3), np.uint8)
    if pipe.spec.kind == "video-to-video":
        return pipe.stream(pixels, PROMPT, window=case.frames, **asked)
    asked |= {"frames": case.frames, "guidance": GUIDANCE}
    if case.conditions is not None:
        return pipe.stream(pixels[0], PROMPT, **asked)
    return pipe.stream(PROMPT, sampler="dpmpp_2m", noise=start(case, seed), **asked)


def clips(case: Case, pipe: Any, device: torch.device, dtype: torch.dtype) -> Callable[..., Walk[Any]]:
    """What makes a clip of a seed, timed from embeddings to frames, as of every side."""
    given = dict(zip(("", PROMPT), embeddings(device, dtype), strict=True))

    def clip(seed: int, **more: Any) -> Walk[Any]:
        with patch("kinescribe.pipelines.text_to_video.encode_text", lambda _, prompts: given[prompts[0]]):
            return walked(events(case, pipe, seed, case.steps, **more), device)

    return clip


def whole(
    case: Case, device: torch.device, dtype: torch.dtype, runs: int, *, as_built: bool
) -> tuple[list[dict[str, Any]], Any]:
    """Rows of a case from embeddings to frames, and the frames of seed 0."""
    pipe = pipeline(case, device, dtype, as_built=as_built)
    clip = clips(case, pipe, device, dtype)
    first = clip(0)
    forget_peak(device)
    walks = [clip(run) for run in range(runs)]
    steps = [s for walk in walks for s in walk.intervals[1:-1]]
    rows = [clip_row(device, first.seconds, [walk.seconds for walk in walks], steps)]
    latents = start(case, 0).to(device)
    forget_peak(device)
    with torch.inference_mode():
        rows.append(decode_row(device, repeated(lambda: decode(pipe.components, latents), device, runs=runs)))
    return rows, first.last.frames


def by_step(case: Case, device: torch.device, dtype: torch.dtype, runs: int) -> list[dict[str, Any]]:
    """Rows of a case whose steps alone are timed, and of the decoding of one frame."""
    pipe = pipeline(case, device, dtype)

    def walk(steps: int) -> Walk[Any]:
        return walked(itertools.islice(events(case, pipe, 0, max(steps, case.steps)), steps), device)

    first = walk(2)
    forget_peak(device)
    timed = [s for _ in range(max(1, runs // TIMED_STEPS)) for s in walk(TIMED_STEPS + 1).intervals[1:]]
    rows = [step_row(device, first.seconds, timed)]
    latents = start(case, 0)[:, :, :1].to(device)
    forget_peak(device)
    with torch.inference_mode():
        rows.append(decode_row(device, repeated(lambda: decode(pipe.components, latents), device, runs=runs)))
    return rows


def within(case: Case, device: torch.device, dtype: torch.dtype, gib: float) -> dict[str, Any]:
    """A clip of two steps, or of as many as a case has that is timed whole, as on a device of ``gib`` in all.

    Of those torch may hold what CUDA leaves of them.
    The towers are there as well: memory is asked for what users load.
    """
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((gib * 2**30 - CONTEXT) / total)
    pipe = pipeline(case, device, dtype, towers=True)
    forget_peak(device)
    steps = case.steps if case.whole else 2
    done = walked(events(case, pipe, 0, steps), device)
    row = clip_row(device, done.seconds, [done.seconds], list(done.intervals[1:-1]))
    placement = pipe.components.placement
    rung = placement.plan.rung.name if isinstance(placement, Applied) else None
    return row | {"limit_gib": gib, "steps": steps, "rung": rung}
