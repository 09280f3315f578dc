"""When memory runs out: what is free, whether an error means that, and the one line that says what to do.

Nothing here imports torch, so that the command line may ask too.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kinescribe.errors import MemoryLimitError
from kinescribe.pipelines.container import memory_left

if TYPE_CHECKING:
    import torch

REMEDIES = {
    "loading": "use --dtype bfloat16 or float16, close other programs, or take a smaller model",
    "reading the prompt": "close other programs, use --dtype bfloat16 or float16, or another --device",
    "reading the picture": "close other programs, use --dtype bfloat16 or float16, or another --device",
    "encoding": "use --memory low, a smaller --size, or --dtype bfloat16 or float16",
    "denoising": "use --memory low, a smaller --size or fewer --frames, or --dtype bfloat16 or float16",
    "decoding": "use --memory low, a smaller --size, or --dtype bfloat16 or float16",
}
"""By stage, the three things to do in the order in which they help."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Turn an error that means "no memory" into a ``MemoryLimitError`` with stage, peak and remedies.

    ``name`` is a key of ``REMEDIES``. Other errors pass through.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        peak = peak_bytes()
        most = f" (most in use: {peak / 1e9:.1f} GB)" if peak else ""
        raise MemoryLimitError(f"out of memory while {name}{most}: {REMEDIES[name]}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch, on any device, says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # torch has no class of its own for a processor's memory and for Apple's
    said = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in said or "not enough memory" in said or "out of memory" in said
    )


def release() -> None:
    """Give back what is no longer used, before something smaller is tried."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@cache
def leave_no_gaps() -> None:
    """From now on let torch's pieces of a GPU's memory grow instead of taking new ones; those that lie unused go.

    Activations come and go in many sizes: with pieces of fixed sizes, a step of a large clip held 40 % more memory than
    it used. For where memory is tight: pieces that grow are slower to get. Once asked for, it stays.
    """
    import torch

    if torch.cuda.get_allocator_backend() != "native":
        return
    release()
    tell = getattr(torch._C, "_accelerator_setAllocatorSettings", None)  # what later versions call it
    (tell or torch.cuda.memory._set_allocator_settings)("expandable_segments:True")


def peak_bytes() -> int:
    """The most memory in use so far: of the GPU if one was used, else of this process; 0 if unknown."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_bytes() -> int | None:
    """Free main memory, of the machine and of the container, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return memory_left()
    granted = memory_left()
    return machine if granted is None else min(machine, granted)


def free_on(device: "torch.device") -> int | None:
    """Free bytes of a device for this process, or None where the system does not tell; what it caches is free.

    Of a GPU no more than the share that ``torch.cuda.set_per_process_memory_fraction`` grants.
    """
    import torch

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        taken, kept = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        here = torch.cuda.current_device() if device.index is None else device.index  # it wants a number
        granted = int(total * torch.cuda.get_per_process_memory_fraction(here))
        return max(min(free + kept, granted) - taken, 0)
    if device.type == "mps":
        return max(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), 0)
    return free_bytes()
