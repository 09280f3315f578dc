"""Weights that wait in main memory: a network that comes to the device whole, and a UNet that comes block by block.

Weights change seldom, so what is in main memory stays valid: leaving a device means to let go of the copy there, and
only what was written to since, as by an adapter, is copied back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kinescribe.models.blocks import Downsample, ResidualBlock, Upsample
from kinescribe.models.transformer import SpatialTransformer, TemporalTransformer
from kinescribe.models.unet import UNet
from kinescribe.ops.parts import Parts
from kinescribe.ops.pinned import main_memory

ALIGNED = 256
UNITS: dict[type[nn.Module], tuple[str, ...]] = {
    ResidualBlock: ("embed.", "conv1.bias"),
    SpatialTransformer: ("layer.attention2.k.", "layer.attention2.v."),
    TemporalTransformer: (),
    Downsample: (),
    Upsample: (),
}
"""What comes and goes, with those of its layers that the UNet asks before: they stay on the device."""


class Pack:
    """Parameters behind each other in one stretch of main memory, which is copied to a device in one go.

    For a GPU it is pinned, if the system grants that. Parameters that lie behind each other do so in every copy too.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, pinned: bool) -> None:
        self._places: list[tuple[nn.Parameter, int, torch.dtype]] = []
        self._versions: list[int] = []
        stretches, size = _stretches(parameters), 0
        with torch.inference_mode(False):
            self.host = main_memory(sum(_aligned(s.end - s.begin) for s in stretches), pinned=pinned)
            for stretch in stretches:
                storage, length = stretch.storage, stretch.end - stretch.begin
                there = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
                self.host[size : size + length].copy_(there[stretch.begin : stretch.end])
                for parameter in stretch.parameters:
                    start = size + int(parameter.storage_offset()) * parameter.itemsize - stretch.begin
                    self._places.append((parameter, start // parameter.itemsize, parameter.dtype))
                size += _aligned(length)
        self.place(self.host)

    def place(self, whole: Tensor) -> None:
        """Let the parameters lie in ``whole``: bytes, laid out as in ``host``."""
        with torch.inference_mode(False):
            for parameter, start, dtype in self._places:
                numbers = whole[: len(self.host)].view(dtype)
                parameter.data = numbers.as_strided(parameter.shape, parameter.stride(), start)
        self._versions = [parameter._version for parameter, *_ in self._places]

    def fits(self) -> bool:
        """Whether the parameters still have the number formats in which they were packed."""
        return all(parameter.dtype == dtype for parameter, _, dtype in self._places)

    def bring(self, device: torch.device) -> None:
        """Copy everything to a device; the parameters lie there then."""
        with torch.inference_mode(False):
            self.place(self.host.to(device, non_blocking=True, copy=True))

    def leave(self) -> None:
        """Let go of the copy on the device; the parameters lie in main memory then, with what was written to them."""
        written = [
            (parameter, parameter.data)
            for (parameter, *_), version in zip(self._places, self._versions, strict=True)
            if parameter._version != version
        ]
        self.place(self.host)
        for parameter, numbers in written:
            parameter.data.copy_(numbers)


class Streamed:
    """A UNet whose units are on the device only while they compute; the next one is copied meanwhile.

    Between ``begin`` and ``end`` two buffers of the largest unit take turns, and all else of the UNet is on the
    device, see ``resident_bytes``; before and after, everything waits in main memory.
    """

    def __init__(self, unet: UNet, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == "cuda"
        units, rest = _divided(unet)
        self._units = [unit for unit, _ in units]
        self._packs = [Pack(parameters, pinned=self._on_gpu) for _, parameters in units]
        self._rest = Pack(rest, pinned=self._on_gpu)
        self._handles: list[RemovableHandle] = []
        self._buffers: list[Tensor] = []
        self._loaded = [-1, -1]

    def fits(self) -> bool:
        """Whether the parameters still have the number formats in which they were packed."""
        return all(pack.fits() for pack in (*self._packs, self._rest))

    @property
    def host_bytes(self) -> int:
        """What waits in main memory."""
        return sum(len(pack.host) for pack in (*self._packs, self._rest))

    def begin(self) -> None:
        """From here on the UNet may be called."""
        most = max(len(pack.host) for pack in self._packs)
        with torch.inference_mode(False):
            self._buffers = [torch.empty(most, dtype=torch.uint8, device=self._device) for _ in range(2)]
        self._loaded = [-1, -1]
        if self._on_gpu:
            self._copying = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._done = [torch.cuda.Event() for _ in self._buffers]  # type: ignore[no-untyped-call]
        self._rest.bring(self._device)
        for number, unit in enumerate(self._units):
            enter, leave = partial(self._enter, number), partial(self._leave, number)
            self._handles.append(unit.register_forward_pre_hook(lambda *_, do=enter: do()))
            self._handles.append(
                unit.register_forward_hook(lambda *given, do=leave: do(given[-1]), always_call=True)
            )

    def end(self) -> None:
        """Leave the device; the UNet is as it was."""
        for handle in self._handles:
            handle.remove()
        if self._on_gpu:  # the buffers are still written
            torch.cuda.current_stream(self._device).wait_stream(self._copying)
        self._rest.leave()
        self._handles, self._buffers = [], []

    def _enter(self, number: int) -> None:
        if number not in self._loaded:
            self._load(number, 0)
        slot = self._loaded.index(number)
        if self._on_gpu:
            torch.cuda.current_stream(self._device).wait_stream(self._copying)
        self._packs[number].place(self._buffers[slot])
        self._load((number + 1) % len(self._packs), 1 - slot)

    def _leave(self, number: int, result: object) -> object:
        """What the unit gave, put together if it is in parts: a bias of it lies in the unit's memory."""
        result = result.whole() if isinstance(result, Parts) else result
        if self._on_gpu and number in self._loaded:
            self._done[self._loaded.index(number)].record()
        self._packs[number].leave()
        return result

    def _load(self, number: int, slot: int) -> None:
        """Begin to copy a unit into a buffer, once the unit that was there has been computed."""
        host = self._packs[number].host
        self._loaded[slot] = number
        with torch.inference_mode(False):
            if not self._on_gpu:
                self._buffers[slot][: len(host)].copy_(host)
                return
            self._copying.wait_event(self._done[slot])
            with torch.cuda.stream(self._copying):
                self._buffers[slot][: len(host)].copy_(host, non_blocking=True)


def resident_bytes(unet: UNet) -> int:
    """What of a UNet is on the device at most while it comes block by block."""
    units, rest = _divided(unet)
    return _bytes(rest) + 2 * max(_bytes(parameters) for _, parameters in units)


def _divided(unet: UNet) -> tuple[list[tuple[nn.Module, list[nn.Parameter]]], list[nn.Parameter]]:
    """The units in the order in which they run, each with what it needs while it runs, and all other parameters."""
    units = []
    for module in unet.modules():
        if type(module) in UNITS:
            before = UNITS[type(module)]
            own = [p for name, p in module.named_parameters() if not name.startswith(before)]
            units.append((module, own))
    taken = {id(p) for _, own in units for p in own}
    return units, [p for p in unet.parameters() if id(p) not in taken]


def _bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.nbytes for p in parameters)


@dataclass
class _Stretch:
    """Parameters behind each other in one storage, from byte ``begin`` to ``end``."""

    storage: torch.UntypedStorage
    begin: int
    end: int
    parameters: list[nn.Parameter]


def _stretches(parameters: Iterable[nn.Parameter]) -> list[_Stretch]:
    """All parameters, those that touch in memory together; nothing else of their storages, which may be whole models.

    In the order in which the first parameter of each was given.
    """
    given = list(parameters)
    by_storage: dict[int, list[nn.Parameter]] = {}
    for parameter in given:
        by_storage.setdefault(parameter.untyped_storage()._cdata, []).append(parameter)
    found: list[_Stretch] = []
    for there in by_storage.values():
        last: _Stretch | None = None
        for parameter in sorted(there, key=lambda p: int(p.storage_offset()) * p.itemsize):
            begin = int(parameter.storage_offset()) * parameter.itemsize
            end = begin + _extent(parameter)
            if last is None or begin > last.end:
                last = _Stretch(parameter.untyped_storage(), begin, end, [])
                found.append(last)
            last.end = max(last.end, end)
            last.parameters.append(parameter)
    first = {id(parameter): place for place, parameter in enumerate(given)}
    return sorted(found, key=lambda stretch: min(first[id(p)] for p in stretch.parameters))


def _extent(parameter: nn.Parameter) -> int:
    """Bytes from its first number to its last."""
    steps = zip(parameter.shape, parameter.stride(), strict=True)
    return (
        (1 + sum((size - 1) * step for size, step in steps)) * parameter.itemsize if parameter.numel() else 0
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
