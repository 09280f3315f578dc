"""Where a model runs and in which number format: the only place that resolves ``auto``."""

import warnings

import torch

from kinescribe.errors import KinescribeWarning, OptionError
from kinescribe.pipelines.container import cores

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str) -> torch.device:
    """``auto`` is the first of cuda, mps, cpu that is there; raises ``OptionError`` naming what is there."""
    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"device={name!r} is not known: use auto or one of {', '.join(present)}") from None
    if device.type not in present:
        raise OptionError(f"device={name!r} is not on this machine: use auto or one of {', '.join(present)}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def available_devices() -> list[str]:
    """Device types of this machine, best first; never empty."""
    here = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()), ("cpu", True)]
    return [name for name, present in here if present]


def pick_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """``auto`` is float16 on CUDA, float32 on MPS (half precision gave black frames there), and on a CPU
    bfloat16 where the processor computes in it, else float32. A CPU asked for float16 by name
    gets that too, with a warning."""
    if isinstance(name, torch.dtype):
        return name
    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if device.type == "cpu" and _cpu_has_bfloat16() else torch.float32
    if name not in DTYPES:
        raise OptionError(f"dtype={name!r} is not known: use auto, {', '.join(DTYPES)}")
    if DTYPES[name] == torch.float16 and device.type == "cpu":
        other = pick_dtype("auto", device)
        warnings.warn(
            f"float16 is very slow on a CPU: computing in {str(other).removeprefix('torch.')}",
            KinescribeWarning,
            stacklevel=2,
        )
        return other
    return DTYPES[name]


def dtype_of_towers(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The number format of the text and image towers, where the UNet's is asked for as ``name``: as :func:`pick_dtype`.

    On a CPU float32, unless bfloat16 is named: they work once a clip, and short prompts gain nothing in bfloat16.
    """
    if device.type == "cpu" and name in ("auto", "float16"):
        return torch.float32
    return pick_dtype(name, device)


def spare_threads() -> None:
    """Let torch compute with no more threads than this process may run at once: others would only wait for a turn.

    Fewer, as by ``OMP_NUM_THREADS``, stay as they are.
    """
    allowed = cores()
    if torch.get_num_threads() > allowed:
        torch.set_num_threads(allowed)


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
