"""The processes of one run: alone, or started by torchrun with one process a device."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinescribe.errors import DataError, KinescribeError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others; the first one writes a milestone meanwhile, which takes minutes."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process's place among `world` processes, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself when alone, else a copy of the handle that averages gradients over the processes."""
        if self.world == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)

    def from_first(self, *values: float) -> list[float]:
        """The first process's numbers, in every process: what all must decide alike (time, a request to stop)."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        return tensor.tolist()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes, in every process."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def stack(self, values: Tensor) -> Tensor:
        """The tensors of all processes, stacked along a new first axis, on the CPU."""
        if self.world == 1:
            return values[None].cpu()
        parts = [torch.empty_like(values, device=self.device) for _ in range(self.world)]
        dist.all_gather(parts, values.to(self.device))
        return torch.stack(parts).cpu()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn the loss of another process, ended or silent for `PATIENCE`, into one line."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _is_loss(error):
                raise
            raise KinescribeError(
                f"process {self.rank} of {self.world} waits for another one in vain ({_reason(error)}): look for "
                "that one's own error; the same command goes on from the last checkpoint"
            ) from error

    def leave(self) -> None:
        """Part from the other processes; call it once, at the end."""
        if dist.is_initialized():
            dist.destroy_process_group()


def join(device: Literal["auto", "cpu", "cuda"]) -> Ranks:
    """Take this process's place; under torchrun its environment variables tell which one that is."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind == "cuda" and not torch.cuda.is_available():
        raise DataError("run.device=cuda but no CUDA device is visible: use --set run.device=cpu")
    world, rank = processes(), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cpu")
    if kind == "cuda":
        # A launcher may show each process its own device alone, which then has the index 0 in every one of them.
        place = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(place)
    if world > 1:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    return Ranks(rank=rank, world=world, device=place)


def processes() -> int:
    """How many processes the run has, as torchrun tells."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def end(code: int) -> NoReturn:
    """End this process with an exit code; call it last.

    One of several ends at once: threads of a process group outlive it, and one that lets go of its last tensor while
    Python takes itself down aborts the process ("terminate called without an active exception").
    """
    if processes() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _is_loss(error: RuntimeError) -> bool:
    # gloo raises plain errors, which tell only in words where they come from
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _reason(error: RuntimeError) -> str:
    """What the system says, without the place in the library's source."""
    said = str(error).splitlines()[0]
    return said.split("] ", 1)[-1].split(". ")[0][:200]
