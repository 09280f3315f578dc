"""How a request is carried out in the memory there is: the first rung of a ladder on which it fits.

Every rung gives the same clip, up to the rounding of one batch against two; each saves memory and costs some time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from kinescribe.checkpoints.source import PartName
from kinescribe.models.unet import kept_numbers
from kinescribe.ops.select import Capability
from kinescribe.ops.slices import PIXELS, ROWS, WHOLE
from kinescribe.perf import demand
from kinescribe.perf.calibration import (
    KEPT_UNITS,
    LATENTS,
    LOST,
    SMALL_THINGS,
    SPARE,
    UNET_UNITS,
    VAE_UNITS,
    WORKSPACE,
)
from kinescribe.perf.demand import WORKING, StageName, Work
from kinescribe.perf.offload import resident_bytes
from kinescribe.perf.outline import Outline

Residence = Literal["always", "until read", "at work", "by block"]
SMALL_ROWS = 1 << 14
TOWERS: tuple[PartName, ...] = ("text", "vision")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to spend memory. ``merged`` asks both branches of guidance at once, ``rows`` bounds slices of the UNet.

    ``residence`` says when weights are on the device: ``always``; the towers only ``until`` everything is ``read``;
    each network only while it is ``at work``; or the UNet ``by block``, the others at work.
    """

    name: str
    said: str
    merged: bool
    rows: int
    residence: Residence


RUNGS = (
    Rung(
        name="roomy",
        said="all weights stay on the device, the two passes of guidance run at once, nothing is sliced",
        merged=True,
        rows=WHOLE,
        residence="always",
    ),
    Rung(
        name="sliced",
        said="large clips are worked on in slices",
        merged=True,
        rows=ROWS,
        residence="always",
    ),
    Rung(
        name="towers-out",
        said="the text and the image tower leave the device once prompt and picture are read",
        merged=True,
        rows=ROWS,
        residence="until read",
    ),
    Rung(
        name="branches-apart",
        said="the two passes of guidance run one after the other",
        merged=False,
        rows=ROWS,
        residence="until read",
    ),
    Rung(
        name="small-slices",
        said="large clips are worked on in smaller slices",
        merged=False,
        rows=SMALL_ROWS,
        residence="until read",
    ),
    Rung(
        name="by-stage",
        said="each network is on the device only while it works",
        merged=False,
        rows=SMALL_ROWS,
        residence="at work",
    ),
    Rung(
        name="by-block",
        said="the UNet comes to the device block by block, the next one while one computes",
        merged=False,
        rows=SMALL_ROWS,
        residence="by block",
    ),
)
"""From roomy to small; each adds to those before it."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a request is carried out: the type of the device, and the bytes ``free`` for weights and all else.

    ``by_block`` says whether the UNet may come block by block; what reads its weights otherwise forbids that. Of a CUDA
    device that is here ``capability`` is its generation, which decides what is computed by kernels of ours.
    """

    kind: str
    free: int
    by_block: bool = True
    capability: Capability | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage needs: bytes of weights on the device, and bytes in use at its most, weights included."""

    name: StageName
    weights: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A rung and what it will need. ``pixels`` go through the autoencoder at once; ``why`` is one line.

    ``stages`` is empty where so much is free that nothing was counted. ``spare`` bytes are to stay free at least.
    """

    rung: Rung
    pixels: int
    stages: tuple[Stage, ...]
    why: str
    spare: int = 0

    @property
    def peak(self) -> int:
        """The most bytes in use, weights included."""
        return max((stage.peak for stage in self.stages), default=0)


def ladder(model: Outline, work: Work, device: Device) -> tuple[Rung, ...]:
    """The rungs that a request has there, roomy first, without those that differ in slices larger than its work.

    Weights have another place to be only beside a GPU of its own.
    """
    if device.kind == "cuda":
        rungs = [rung for rung in RUNGS if device.by_block or rung.residence != "by block"]
    else:
        # Elsewhere large clips are sliced as ever: only on a GPU was it measured that whole ones are faster.
        large = work.vectors(model, merged=True) > ROWS
        rungs = [replace(rung, residence="always") for rung in (RUNGS[1:] if large else RUNGS)]
    ways = [
        (rung.merged, rung.residence, min(rung.rows, work.vectors(model, merged=rung.merged)))
        for rung in rungs
    ]
    return tuple(rung for i, rung in enumerate(rungs) if not i or ways[i] != ways[i - 1])


def quick(model: Outline, work: Work, device: Device) -> Plan | None:
    """The first rung where a bound on what it needs, known without counting, is free; else None."""
    most = sum(map(model.bytes, model.parts)) + _bound(model, work) + _beside(model, work, device)
    if most > device.free:
        return None
    why = f"less than {gb(most)} needed, {gb(device.free)} free"
    return Plan(rung=ladder(model, work, device)[0], pixels=PIXELS, stages=(), why=why)


def first_fitting(model: Outline, work: Work, device: Device) -> Plan | None:
    """The first rung whose need, with what an allocator loses, is free; None if there is none."""
    above: Plan | None = None
    for plan in plans(model, work, device):
        if need(plan) <= device.free:
            return plan if above is None else replace(plan, why=_why(plan, above))
        above = plan
    return None


def plans(model: Outline, work: Work, device: Device) -> Iterator[Plan]:
    """A plan for each rung of the ladder; counted one by one as they are asked for."""
    for rung in ladder(model, work, device):
        yield planned(model, work, device, rung)


def planned(model: Outline, work: Work, device: Device, rung: Rung) -> Plan:
    """What a rung needs, whether or not it fits."""
    together = _together(model, work, device, rung)
    stages = tuple(_stage(name, model, work, device, rung, together) for name in work.stages(model))
    spare = SPARE[device.kind]
    plan = Plan(rung=rung, pixels=together * work.width * work.height, stages=stages, why="", spare=spare)
    return replace(plan, why=f"{gb(need(plan))} needed, {gb(device.free)} free")


def need(plan: Plan) -> int:
    """Bytes that must be free for a plan: its peak and what an allocator loses or wants beside it."""
    return max((s.peak + max(round(LOST * (s.peak - s.weights)), plan.spare) for s in plan.stages), default=0)


def gb(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def networks_at(stage: str, parts: tuple[PartName, ...], rung: Rung) -> tuple[PartName, ...]:
    """Those of a model's networks that are on the device in a stage."""
    if rung.residence == "always" or (rung.residence == "until read" and stage.startswith("reading")):
        return parts
    if rung.residence == "until read":
        return tuple(part for part in parts if part not in TOWERS)
    return tuple(part for part in parts if part in WORKING.get(stage, ()) or part == "conditions")


def _why(plan: Plan, above: Plan) -> str:
    return f"{plan.why}; {above.rung.name} would need {gb(need(above))}"


def _bound(model: Outline, work: Work) -> int:
    numbers = work.vectors(model, merged=True) * model.unet.width
    unet = ((UNET_UNITS + KEPT_UNITS * work.kept) * numbers + kept_numbers(model.unet)) * model.dtype.itemsize
    pixels = max(PIXELS, work.width * work.height)
    vae = VAE_UNITS * pixels * model.vae.width * model.dtype_of("vae").itemsize
    return SMALL_THINGS + unet + vae  # where both are recorded, each keeps what it works on


def _together(model: Outline, work: Work, device: Device, rung: Rung) -> int:
    """Frames that go through the autoencoder at once: as many as fill the device, or as there is room for."""
    pixels = work.width * work.height
    most = max(1, min(PIXELS // pixels, max(work.frames, work.encoded)))
    one = demand.decoding(model, work, 1, device.capability).peak
    room = (device.free - _resident("decoding", model, rung)) / (1 + LOST) - _beside(model, work, device)
    return max(1, min(most, int(room / one)))


def _resident(stage: StageName, model: Outline, rung: Rung) -> int:
    parts = networks_at(stage, model.parts, rung)
    whole = sum(model.bytes(part) for part in parts)
    if rung.residence == "by block" and "unet" in parts:
        whole += _streamed(model) - model.bytes("unet")
    return whole


@lru_cache(maxsize=32)
def _streamed(model: Outline) -> int:
    return resident_bytes(model.network("unet"))  # type: ignore[arg-type]


def _stage(name: StageName, model: Outline, work: Work, device: Device, rung: Rung, together: int) -> Stage:
    weights, kept = _resident(name, model, rung), 0
    exact = replace(work, kept=0, eight_bits=False)  # is counted once, whatever the preset
    if name == "denoising":
        merged = rung.merged and work.guided
        count = demand.denoising(model, exact, merged=merged, rows=rung.rows, capability=device.capability)
        kept = demand.kept_bytes(model, work)
    elif name == "decoding":
        count = demand.decoding(model, exact, together, device.capability)
    elif name == "encoding":
        count = demand.encoding(model, exact, together, device.capability)
    else:
        count = demand.reading(model, exact, device.capability)
    return Stage(name=name, weights=weights, peak=weights + count.peak + kept + _beside(model, work, device))


def _beside(model: Outline, work: Work, device: Device) -> int:
    """What is there in every stage."""
    copies = demand.copy_bytes(model, device.capability) if work.eight_bits else 0
    return WORKSPACE[device.kind] + copies + LATENTS * work.clips * demand.latent_bytes(model, work)
