"""From resolved settings to a plan of memory: made before anything is sampled, said where it costs speed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from kinescribe.catalog import ModelSpec, find_spec
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.load import locate
from kinescribe.checkpoints.store import model_folder
from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.perf.apply import Applied
from kinescribe.perf.budget import Memory
from kinescribe.perf.cost import Cost, costs
from kinescribe.perf.demand import Work
from kinescribe.perf.fit import choose, is_roomy, within
from kinescribe.perf.fp8 import forget, require_eight_bits
from kinescribe.perf.outline import Outline, loaded, outline_of, published
from kinescribe.perf.plan import Device, Plan, Rung, gb, ladder, need, planned, quick
from kinescribe.perf.presets import SPEEDS
from kinescribe.perf.speed import speeds
from kinescribe.pipelines.denoise import windows_of
from kinescribe.pipelines.device import dtype_of_towers, pick_device, pick_dtype
from kinescribe.pipelines.memory import free_on, leave_no_gaps
from kinescribe.pipelines.settings import AnySettings, ClipSettings, Settings
from kinescribe.pipelines.stages import say

LARGE = 300e6
"""Parameters of a UNet from which a processor is slow; the embedded model has 6 million."""

UNKNOWN = 1 << 60
"""Bytes that count as free where the system does not tell."""

PASSES_A_STEP = {"heun": 2}
"""Passes of the UNet at each step, for samplers that take more than one."""


def work_of(job: AnySettings, spec: ModelSpec, *, clips: int = 1) -> Work:
    """What of ``clips`` like this memory and time depend on."""
    making = job if isinstance(job, Settings) else job.making
    passes, speed = making.steps * PASSES_A_STEP.get(making.sampler, 1), SPEEDS[making.preset]
    work = Work(
        frames=making.frames,
        window=making.frames,
        width=making.width,
        height=making.height,
        clips=clips,
        guided=making.guidance > 1,
        passes=passes,
        encoded=int(spec.picture is not None and spec.picture.first_frame),
        kept=int(speed.reuse is not None),
        eight_bits=speed.eight_bits,
    )
    if not isinstance(job, ClipSettings):
        return work
    width, height = computed_size(making, spec)
    window = min(job.window, making.frames)
    windows = len(windows_of(making.frames, window, job.overlap))
    if spec.refinement is None:  # the last part of the path alone
        passes = max(round(passes * job.strength), 1)
    elif spec.refinement.inversion is not None:  # the way up as well, which asks one branch
        passes += -(-making.steps // (2 if work.guided else 1))
    return replace(
        work,
        width=width,
        height=height,
        window=window,
        passes=passes * windows,
        encoded=making.frames,
        kept=work.kept * windows,
    )


def computed_size(making: Settings, spec: ModelSpec) -> tuple[int, int]:
    """The least legal width and height of a model that hold the clip."""
    grid, more = spec.grid, spec.row_remainder
    width = -(-making.width // grid) * grid
    return width, max(-(-(making.height - more) // grid), 0) * grid + more


def prepare(components: Components, works: Sequence[Work]) -> Work:
    """Plan the first of ``works`` that fits on the first rung, else the last on any; the one that was taken.

    ``components`` follow the plan from then on. Says which rung it is where it is not the first, and what a large
    model takes on a processor. Raises ``MemoryLimitError``, with the largest that would fit, where none does, and
    ``OptionError`` for a preset that the device does not have.
    """
    if works[-1].eight_bits:
        require_eight_bits(components.device, components.dtype)
    model, memory = loaded(components), components.memory
    device = _held(standing(components.device), works[-1])
    if memory == "low" or quick(model, works[0], within(device, memory)) is None:
        # only now, for there are thousands: what the model's own weights hold is free for it as well
        device = _held(device_of(components), works[-1])
    work = next((work for work in works[:-1] if is_roomy(model, work, device, memory)), works[-1])
    plan = choose(model, work, device, memory)
    if plan.stages and not work.eight_bits:  # memory is tight, and another request may have left copies
        forget(components.unet)
    rungs = ladder(model, work, device)
    place = rungs.index(plan.rung)
    follow(components, plan, rungs[place + 1 :])
    if plan.stages and device.kind == "cuda":
        leave_no_gaps()
    if place:
        say(f"memory: {plan.rung.said} ({plan.rung.name}: {plan.why})")
    note = slow_note(components, model, work, plan)
    if note:
        say(note)
    return work


def follow(components: Components, plan: Plan, lower: tuple[Rung, ...]) -> None:
    """Carry out the requests that come next as ``plan`` says; ``lower`` are the rungs below it."""
    if isinstance(components.placement, Applied):
        components.placement.follow(plan, lower)
    else:
        components.placement = Applied(components, components.device, plan, lower)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a request will need: the plan, and what each of its stages costs."""

    model: Outline
    work: Work
    device: Device
    plan: Plan
    costs: tuple[Cost, ...]

    @property
    def needed(self) -> int:
        """Bytes that must be free."""
        return need(self.plan)

    @property
    def seconds(self) -> float | None:
        """All stages together; None where the device is not here."""
        known = [cost.seconds for cost in self.costs if cost.seconds is not None]
        return sum(known) if len(known) == len(self.costs) else None


def forecast(model: str, job: AnySettings, *, device: str, dtype: str, memory: Memory) -> Forecast:
    """What a job for a model, named or in a folder, will need; no weights are read, nor need they be here.

    ``device`` and ``dtype`` are as for ``load``; with a number for ``memory`` a GPU need not be here either. Raises
    ``MemoryLimitError`` as :func:`prepare` does.
    """
    here, where = _somewhere(device, memory)
    outline, there = _outlook(model, where, dtype, memory, here=here)
    work = work_of(job, outline.spec)
    there = _held(there, work)
    plan = choose(outline, work, there, memory)
    plan = replace(planned(outline, work, there, plan.rung), why=plan.why)
    known = costs(outline, work, plan, where.type, speeds(where, outline.dtype) if here else None)
    return Forecast(model=outline, work=work, device=there, plan=plan, costs=known)


def require_room(model: str, job: AnySettings, *, device: str, dtype: str, memory: Memory) -> None:
    """Raise ``MemoryLimitError``, before any weights are read, where a job does not fit; quick where it easily does."""
    outline, there = _outlook(model, pick_device(device), dtype, memory, here=True)
    work = work_of(job, outline.spec)
    choose(outline, work, _held(there, work), memory)


def outline_named(model: str, dtype: torch.dtype, tower_dtype: torch.dtype) -> Outline:
    """The outline of a model by name or folder; of one that is not on this computer as it was published."""
    spec = find_spec(model)
    if spec is not None and spec.sources and model_folder(spec) is None:
        return published(spec, dtype, tower_dtype)
    return outline_of(describe(locate(model), variant=None, spec=None), dtype, tower_dtype)


def spec_named(model: str) -> ModelSpec:
    """What a model by name or in a folder was made for."""
    return find_spec(model) or describe(locate(model), variant=None, spec=None).spec


def _held(device: Device, work: Work) -> Device:
    """The device as far as work leaves it a choice: copies in 8 bits would be made anew for each block that comes."""
    return replace(device, by_block=not work.eight_bits)


def _outlook(
    model: str, where: torch.device, dtype: str, memory: Memory, *, here: bool
) -> tuple[Outline, Device]:
    """A model as ``load`` would load it, and what is free for it."""
    outline = outline_named(model, pick_dtype(dtype, where), dtype_of_towers(dtype, where))
    there = standing(where) if here else Device(kind=where.type, free=UNKNOWN)
    return outline, within(there, memory)


def _somewhere(device: str, memory: Memory) -> tuple[bool, torch.device]:
    """Whether a device is here, and which it is; a GPU that is not here needs a number for ``memory``."""
    try:
        return True, pick_device(device)
    except OptionError:
        if isinstance(memory, int) and device in ("cuda", "mps"):
            return False, torch.device(device)
        raise


def device_of(components: Components) -> Device:
    """What is free where a loaded model works, its own weights there included."""
    device = components.device
    held = sum(
        weight.nbytes
        for network in components.networks
        for weight in network.parameters()
        if weight.device.type == device.type
    )
    there = standing(device)
    return replace(there, free=there.free + held)


def standing(device: torch.device) -> Device:
    """A device as it is now, for the planner."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return Device(kind=device.type, free=known_free(device), capability=capability)


def known_free(device: torch.device) -> int:
    """Free bytes of a device for this process; ``UNKNOWN`` where the system does not tell."""
    free = free_on(device)
    return UNKNOWN if free is None else free


def slow_note(components: Components, model: Outline, work: Work, plan: Plan) -> str | None:
    """One line with about how many minutes and gigabytes a large model takes on a processor; else None."""
    if components.device.type != "cpu":
        return None
    if sum(weight.numel() for weight in components.unet.parameters()) < LARGE:
        return None
    device = device_of(components)
    known = costs(model, work, plan, device.kind, speeds(components.device, components.dtype))
    minutes = sum(cost.seconds or 0 for cost in known) / 60
    whole = plan if plan.stages else planned(model, work, device, plan.rung)
    there = f" ({gb(device.free)} are there)" if device.free < UNKNOWN else ""
    return (
        f"{components.spec.name} on a processor: about {max(minutes, 1):.0f} minutes and {gb(need(whole))} "
        f"of memory{there}; a GPU is the place for it, and fewer --frames, a smaller --size or fewer --steps take less"
    )
