"""The plan of a request: by name, within a budget, or the first that fits; and what would fit where none does."""

from collections.abc import Callable
from dataclasses import replace

from kinescribe.errors import MemoryLimitError
from kinescribe.ops.slices import PIXELS
from kinescribe.perf.budget import Memory
from kinescribe.perf.calibration import CONTEXT
from kinescribe.perf.demand import Work
from kinescribe.perf.outline import Outline
from kinescribe.perf.plan import Device, Plan, first_fitting, gb, ladder, need, planned, quick


def choose(model: Outline, work: Work, device: Device, memory: Memory) -> Plan:
    """How to carry out a request; raises ``MemoryLimitError`` with the largest that would fit where it does not.

    ``roomy`` is not held to what is free. Of a number of bytes a GPU's own share is taken off first.
    """
    if memory == "roomy":
        return Plan(rung=ladder(model, work, device)[0], pixels=PIXELS, stages=(), why="asked for")
    device = within(device, memory)
    if memory == "low":
        plan = _smallest(model, work, device)
        if need(plan) <= device.free:
            return replace(plan, why="asked for")
    else:
        fitting = quick(model, work, device) or first_fitting(model, work, device)
        if fitting is not None:
            return fitting
    raise MemoryLimitError(refusal(model, work, device))


def is_roomy(model: Outline, work: Work, device: Device, memory: Memory) -> bool:
    """Whether a request fits on the first rung, so that more could be asked of the device at once."""
    if memory in ("roomy", "low"):
        return memory == "roomy"
    device = within(device, memory)
    if quick(model, work, device) is not None:
        return True
    return need(planned(model, work, device, ladder(model, work, device)[0])) <= device.free


def within(device: Device, memory: Memory) -> Device:
    """The device as if it had so many bytes in all, if ``memory`` is a number and that is less than is free."""
    if not isinstance(memory, int):
        return device
    own = CONTEXT if device.kind == "cuda" else 0
    return replace(device, free=max(min(memory - own, device.free), 0))


def refusal(model: Outline, work: Work, device: Device) -> str:
    """One line: what the smallest rung needs, what is there, and the largest that would fit."""
    least = _smallest(model, work, device)
    asked = f"{work.window} frames of {work.width}x{work.height}"
    fitting = [text for text in (_fewer_frames(model, work, device), _smaller(model, work, device)) if text]
    advice = " or ".join(fitting)
    advice = (
        f"{advice} would fit"
        if advice
        else "no size of this model would fit: take a smaller model or another device"
    )
    return (
        f"{model.spec.name} needs {gb(need(least))} at least for {asked} and {gb(device.free)} are free "
        f"({device.kind}): {advice}"
    )


def largest_frames(model: Outline, work: Work, device: Device) -> Work | None:
    """The request with the most frames in one pass that fits at this size; None if not even one does."""

    def fewer(count: int) -> Work:
        whole = (
            work.frames if work.frames > work.window else count
        )  # a long clip keeps its frames, in more windows
        return replace(work, window=count, frames=whole)

    return _largest(fewer, work.window, model, device)


def largest_size(model: Outline, work: Work, device: Device) -> Work | None:
    """The request at the largest size of about this shape, on the model's grid, that fits; None if none does."""
    spec, more = model.spec, model.spec.row_remainder
    rows = (work.height - more) // spec.grid

    def smaller(count: int) -> Work:
        height = count * spec.grid + more
        width = max(round(work.width * height / work.height / spec.grid), 1) * spec.grid
        return replace(work, width=width, height=height)

    return _largest(smaller, rows, model, device)


def _fewer_frames(model: Outline, work: Work, device: Device) -> str:
    found = largest_frames(model, work, device)
    if found is None:
        return ""
    option = "--window" if work.frames > work.window or work.encoded > 1 else "--frames"
    return f"{option} {found.window}"


def _smaller(model: Outline, work: Work, device: Device) -> str:
    found = largest_size(model, work, device)
    return "" if found is None else f"--size {found.width}x{found.height}"


def _smallest(model: Outline, work: Work, device: Device) -> Plan:
    """The plan on the last rung."""
    return planned(model, work, device, ladder(model, work, device)[-1])


def _largest(less: Callable[[int], Work], most: int, model: Outline, device: Device) -> Work | None:
    """``less`` of the largest number below ``most`` that fits, by halving; None if 1 does not."""
    low, high = 0, most
    while high - low > 1:
        guess = (low + high) // 2
        if need(_smallest(model, less(guess), device)) <= device.free:
            low = guess
        else:
            high = guess
    return less(low) if low else None
