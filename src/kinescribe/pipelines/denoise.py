"""The loop that every task runs: steps, guidance, the check that numbers are numbers, windows of a long clip."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch, Denoise, at_trained_levels, denoiser
from kinescribe.diffusion.samplers import StepNoise, sample
from kinescribe.diffusion.schedule import Level, Schedule
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.media.video import Video
from kinescribe.models.conditions import Conditioning, join
from kinescribe.ops.slices import at_most
from kinescribe.perf.presets import EXACT, Asked, Speed
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.stages import in_parts
from kinescribe.pipelines.watch import Watched

LATENT_CHANNELS = 4

Conditions = Mapping[Branch, Conditioning]
"""What the UNet is told in each branch of guidance; "positive" alone where there is none."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """After step ``index`` of ``total`` (from 1): the latents as they stand and the present clean estimate.

    ``stage`` says in words what is being done.
    """

    index: int
    total: int
    t: float
    latents: Float[Tensor, "b c f h w"]
    clean: Float[Tensor, "b c f h w"]
    stage: str = "denoising"


@dataclass(frozen=True, kw_only=True)
class Walk:
    """How a path is walked: the sampler and its fresh noise, how both branches of guidance are joined.

    ``windows`` are the frames that the UNet sees at a time. ``trained_levels`` is the schedule whose whole steps
    the network is told of, where it is not asked between them. ``speed`` is what a preset does.
    """

    path: Trajectory
    sampler: str
    noise: StepNoise
    guidance: float
    rescale: float = 0.0
    eta: float | None = None
    windows: tuple["Window", ...] = ()
    trained_levels: Schedule | None = None
    speed: Speed = EXACT
    stage: str = "denoising"


@dataclass(frozen=True)
class Window:
    """Frames ``start`` to ``end`` (not included) of a clip, and how much each of them counts there, from 0 to 1."""

    start: int
    end: int
    weights: tuple[float, ...]


def denoise(
    components: Components, x: Float[Tensor, "b c f h w"], conditions: Conditions, walk: Walk
) -> Iterator[Step]:
    """Walk a path from ``x``, where it begins; one ``Step`` after each of its steps.

    Raises ``NumbersError`` with step and module where numbers are not finite, ``MemoryLimitError`` where memory
    does not suffice for both branches of guidance one after the other.
    """
    total = len(walk.path)
    rows = None if components.placement is None else components.placement.rows
    asked = Asked(components, walk.speed, conditions, total)
    unet = Watched(components.unet, asked, total)

    def predict(x: Tensor, t: float, branch: Branch) -> Tensor:
        times = torch.full((len(x),), t, device=x.device)
        return unet(x.to(components.dtype), times, conditions[branch])

    estimate = denoiser(
        in_parts(predict, components.placement),
        components.schedule.prediction,
        guidance=walk.guidance,
        rescale=walk.rescale,
        guided=walk.speed.guided,
    )
    if walk.trained_levels is not None:
        estimate = at_trained_levels(estimate, walk.trained_levels)
    if len(walk.windows) > 1:
        estimate = windowed(estimate, walk.windows, asked.at_window)
    steps = sample(walk.sampler, estimate, x, walk.path, noise=walk.noise, eta=walk.eta)
    with stage("denoising"):
        for index, (t, (latents, clean)) in enumerate(zip(walk.path.times, steps, strict=True), 1):
            with at_most(rows):  # a step gone wrong is run once more
                unet.after(index, latents)
            asked.after_step()
            yield Step(index=index, total=total, t=t, latents=latents, clean=clean, stage=walk.stage)
        with at_most(rows):
            unet.settle()


def outcome(events: Iterator[Step | Video]) -> Video:
    """What a generation ends with; its steps are let go one by one."""
    for event in events:
        if isinstance(event, Video):
            return event
    raise RuntimeError("the pipeline ended without a video")


def branches(positive: Conditioning, negative: Conditioning | None) -> Conditions:
    """The branches of guidance and both in one batch; without ``negative`` there is no guidance."""
    if negative is None:
        return {"positive": positive}
    return {"positive": positive, "negative": negative, "both": join(negative, positive)}


def windows_of(frames: int, length: int, overlap: int) -> tuple[Window, ...]:
    """Windows of ``length`` frames, evenly spread, each sharing ``overlap`` frames or more with the next.

    Where two share frames, the weight of one falls as that of the other rises, in a straight line; the weights of
    a frame add up to 1. One window holds the whole clip if that is no longer than ``length``.
    """
    if frames <= length:
        return (Window(0, frames, (1.0,) * frames),)
    gaps = -(-(frames - length) // (length - overlap))
    starts = [round(i * (frames - length) / gaps) for i in range(gaps + 1)]
    from_edge = torch.zeros(len(starts), frames, dtype=torch.float64)
    for row, start in zip(from_edge, starts, strict=True):
        end = start + length
        rise = torch.arange(1.0, length + 1) if start > 0 else torch.full((length,), float(length))
        fall = torch.arange(float(length), 0, -1) if end < frames else torch.full((length,), float(length))
        row[start:end] = torch.minimum(rise, fall)
    weights = from_edge / from_edge.sum(0)
    return tuple(
        Window(start, start + length, tuple(row[start : start + length].tolist()))
        for row, start in zip(weights, starts, strict=True)
    )


def windowed(
    denoise: Denoise, windows: tuple[Window, ...], enter: Callable[[int], None] = lambda _: None
) -> Denoise:
    """``denoise`` over a clip of any length, asked window by window; estimates are joined by their weights.

    So all windows agree at every step, and no frame's noise depends on where a window begins. ``enter`` hears the
    number of each window, from 0, before it is asked about.
    """

    def estimate(x: Tensor, level: Level, t: float) -> Tensor:
        joined = torch.zeros_like(x)
        for index, window in enumerate(windows):
            enter(index)
            part = slice(window.start, window.end)
            weights = torch.tensor(window.weights, dtype=x.dtype, device=x.device)[:, None, None]
            joined[:, :, part] += weights * denoise(x[:, :, part], level, t)
        return joined

    return estimate
