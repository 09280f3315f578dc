"""A plan carried out on a loaded model: which networks are on the device in which stage, and the way one rung down."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from kinescribe.checkpoints.source import PartName
from kinescribe.components import Components, Pass
from kinescribe.models.conditions import Conditioning
from kinescribe.perf.graph import RecordedDecoder, Recorder
from kinescribe.perf.offload import Pack, Streamed
from kinescribe.perf.outline import named_networks
from kinescribe.perf.plan import Plan, Rung, networks_at


class Applied:
    """The networks of ``components``, each where the plan wants it; ``device`` is where they work.

    Nothing moves until a stage is entered, and then only what has to. A network that has left the device once keeps
    its place in main memory, so that it leaves again at no cost.
    """

    def __init__(
        self, components: Components, device: torch.device, plan: Plan, lower: tuple[Rung, ...]
    ) -> None:
        self.plan = plan
        self._device = device
        self._lower = lower
        self._networks = named_networks(components)
        self._here = {name for name, network in self._networks.items() if _place(network) == device.type}
        self._packs: dict[PartName, Pack] = {}
        self._streamed: Streamed | None = None
        self._streaming = False
        self._stage: str | None = None
        self._unet, self._recorder = components.unet, Recorder(components.unet)
        self._vae, self._decoder = components.vae, RecordedDecoder(components.vae)

    @property
    def run(self) -> Callable[[Tensor, Tensor, Conditioning], Tensor]:
        """The UNet: recorded where memory is plentiful, since a recording keeps what its pass works on."""
        return self._recorder if self._plentiful else self._unet

    def through(self, work: Pass, given: tuple[Tensor, ...], told: Conditioning) -> tuple[Tensor, ...]:
        """A part of the UNet's work, recorded where all of it is."""
        if self.run is self._unet:
            return work(self._unet, *given, told)
        return self._recorder.through(work, given, told)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, recorded where the UNet is."""
        return self._decoder(latents) if self._plentiful else self._vae.decode(latents)

    @property
    def _plentiful(self) -> bool:
        return not self.plan.stages and self.plan.rung.merged

    @property
    def merged(self) -> bool:
        """Whether both branches of guidance run at once."""
        return self.plan.rung.merged

    @property
    def rows(self) -> int:
        """Vectors that the UNet works on together."""
        return self.plan.rung.rows

    @property
    def pixels(self) -> int:
        """Pixels that go through the autoencoder together."""
        return self.plan.pixels

    def follow(self, plan: Plan, lower: tuple[Rung, ...]) -> None:
        """Another plan for the next request, and the rungs below it."""
        if plan.stages:  # memory is not plentiful, and another request may have left recordings
            self._forget()
        self.plan, self._lower, self._stage = plan, lower, None

    def enter(self, stage: str) -> None:
        """Bring the networks that work in a stage to the device, after others have left; cheap if they are there."""
        if stage == self._stage:
            return
        wanted = networks_at(stage, tuple(self._networks), self.plan.rung)
        by_block = self.plan.rung.residence == "by block" and stage == "denoising"
        whole = [name for name in wanted if not (by_block and name == "unet")]
        if self._streaming and not by_block:
            self._end_streaming()
        for name in self._networks:
            if name not in whole and name in self._here:
                self._pack(name).leave()
                self._here.remove(name)
        for name in whole:
            if name not in self._here:
                self._pack(name).bring(self._device)
                self._here.add(name)
        if by_block and not self._streaming:
            self._begin_streaming()
        self._stage = stage

    def one_rung_down(self) -> str | None:
        """Go on with the next rung that asks the branches apart, and one frame at a time; None after the first time."""
        rung = next((r for r in self._lower if not r.merged and r != self.plan.rung), None)
        self._lower = ()
        self._forget()
        if rung is None:
            return None
        stage, self._stage = self._stage, None
        self.plan = replace(self.plan, rung=rung, pixels=1)
        if stage is not None:
            self.enter(stage)
        return f"{rung.said} ({rung.name})"

    def _forget(self) -> None:
        self._recorder.forget()
        self._decoder.forget()

    def _begin_streaming(self) -> None:
        if self._streamed is None or not self._streamed.fits():
            self._packs.pop("unet", None)
            self._streamed = Streamed(self._networks["unet"], self._device)  # type: ignore[arg-type]
        self._streamed.begin()
        self._streaming = True

    def _end_streaming(self) -> None:
        assert self._streamed is not None
        self._streamed.end()
        self._streaming = False

    def _pack(self, name: PartName) -> Pack:
        if name == "unet":
            self._streamed = None  # one copy in main memory is enough
        if name not in self._packs or not self._packs[name].fits():
            pinned = self._device.type == "cuda"
            self._packs[name] = Pack(self._networks[name].parameters(), pinned=pinned)
        return self._packs[name]


def _place(network: nn.Module) -> str:
    return next(network.parameters()).device.type
