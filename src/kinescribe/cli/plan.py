"""`kinescribe plan`: what a request would need of memory and time, without loading weights."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import Parameter

from kinescribe.catalog import Kind, default_model
from kinescribe.cli import flags
from kinescribe.cli.engine import Engine
from kinescribe.cli.terminal import Speaker, drawn
from kinescribe.errors import OptionError
from kinescribe.options import (
    ImageToVideo,
    TextToVideo,
    VideoToVideo,
    image_to_video,
    text_to_video,
    video_to_video,
)
from kinescribe.pipelines.settings import (
    AnySettings,
    Settings,
    resolve,
    resolve_clip,
    resolve_picture,
)

if TYPE_CHECKING:
    from kinescribe.pipelines.planning import Forecast

Given = Annotated[
    str, Parameter(help="What the clip would be made of, as for generate, animate or refine; not looked at.")
]
Task = Annotated[
    str | None,
    Parameter(help="text-to-video, image-to-video or video-to-video; by default what the model is for."),
]


@flags.second_flags
@flags.request_flags(TextToVideo, ImageToVideo, VideoToVideo, leave_out=("prompt",))
def plan(
    *given: Given,  # noqa: ARG001 - so that the command line of another command can be taken as it is
    model: flags.OwnModel = None,
    task: Task = None,
    making: flags.Making = flags.USUAL,
    refining: flags.Refining = flags.UNREFINED,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Say what a clip would need of memory and time on this machine, stage by stage, without loading weights.

    Takes the options of generate, animate and refine. A published model need not be on this computer, and with a
    size for --memory neither need the GPU.
    """
    first, again = flags.two_stages(fields, making.size, refining.refine_size)
    engine = _engine(model, task, making)
    job = _job(engine, first)
    jobs = [(engine, job)]
    second = refining.engine(making, again, after=engine)
    if second is not None:
        making_first = job if isinstance(job, Settings) else job.making
        size = {"width": making_first.width, "height": making_first.height, "frames": making_first.frames}
        jobs.append((second, _job(second, again, size)))
    for each, settings in jobs:
        forecast = _forecast(each, settings)
        if making.as_json:
            terminal.data(_facts(forecast))
        else:
            for line in _lines(forecast):
                terminal.result(line)


def _engine(model: str | None, task: str | None, making: flags.Making) -> Engine:
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((kind for kind in kinds if kind == task), None)
    if task is not None and kind is None:
        raise OptionError(f"--task {task!r}: use one of {', '.join(kinds)}")
    name = model or default_model(kind or "text-to-video")
    if kind is None:
        from kinescribe.pipelines.planning import spec_named

        kind = spec_named(name).kind
    return making.engine(name, kind)


def _job(engine: Engine, fields: dict[str, Any], before: dict[str, int] | None = None) -> AnySettings:
    """The settings of a request; for video-to-video with the frames and the size of a clip that there is not yet."""
    spec = engine.spec
    if engine.task == "text-to-video":
        return resolve(text_to_video(**{**fields, "prompt": "", "unconditional": True}), spec)
    if engine.task == "image-to-video":
        return resolve_picture(image_to_video(**fields), spec)
    clip = before or {"width": spec.defaults.width, "height": spec.defaults.height}
    frames = fields.get("frames", clip.get("frames", spec.defaults.frames))
    return resolve_clip(
        video_to_video(**{name: value for name, value in fields.items() if name != "frames"}),
        spec,
        frames=frames,
        size=(clip["width"], clip["height"]),
        fps=spec.defaults.fps,
    )


def _forecast(engine: Engine, job: AnySettings) -> "Forecast":
    from kinescribe.pipelines.planning import forecast

    return forecast(engine.model, job, device=engine.device, dtype=engine.dtype, memory=engine.memory)


def _facts(forecast: "Forecast") -> dict[str, Any]:
    plan = forecast.plan
    stages = [
        {
            "name": stage.name,
            "weight_bytes": stage.weights,
            "peak_bytes": stage.peak,
            "flops": cost.flops,
            "seconds": None if cost.seconds is None else round(cost.seconds, 3),
        }
        for stage, cost in zip(plan.stages, forecast.costs, strict=True)
    ]
    return {
        "model": forecast.model.spec.name,
        "device": forecast.device.kind,
        "dtype": str(forecast.model.dtype).removeprefix("torch."),
        "work": asdict(forecast.work),
        "free_bytes": forecast.device.free,
        "rung": plan.rung.name,
        "rung_means": plan.rung.said,
        "why": plan.why,
        "needed_bytes": forecast.needed,
        "peak_bytes": plan.peak,
        "seconds": None if forecast.seconds is None else round(forecast.seconds, 3),
        "stages": stages,
    }


def _lines(forecast: "Forecast") -> Iterator[str]:
    plan, work = forecast.plan, forecast.work
    dtype = str(forecast.model.dtype).removeprefix("torch.")
    windows = f" in windows of {work.window}" if work.window < work.frames else ""
    yield (
        f"{forecast.model.spec.name}: {work.frames} frames of {work.width}x{work.height}{windows}, "
        f"{work.passes} passes, {dtype} on {forecast.device.kind}"
    )
    rows = [
        [stage.name, _gb(stage.weights), _gb(stage.peak), f"{cost.flops / 1e12:.3g}", _seconds(cost.seconds)]
        for stage, cost in zip(plan.stages, forecast.costs, strict=True)
    ]
    total = sum(cost.flops for cost in forecast.costs)
    rows.append(["all", "", _gb(plan.peak), f"{total / 1e12:.3g}", _seconds(forecast.seconds)])
    yield from drawn(["stage", "weights GB", "peak GB", "TFLOP", "about s"], rows)
    yield f"{plan.rung.name}: {plan.rung.said}; {plan.why}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f}"


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.3g}"
