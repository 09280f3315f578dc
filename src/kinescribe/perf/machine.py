"""What a figure of speed depends on: date, device, driver, versions, commit."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import kinescribe

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
CPU_FACTS = Path("/proc/cpuinfo")


def machine(device: torch.device, *packages: str) -> dict[str, object]:
    """Facts of this machine for a line of JSON; ``packages`` are named with their versions, if they are there.

    ``driver`` and ``commit`` are None where the system does not tell, or the package is no checkout.
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(device),
        "driver": driver() if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "kinescribe": kinescribe.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            **{name: found for name in packages if (found := _version(name))},
        },
        "commit": commit(Path(kinescribe.__file__).parents[2]),
    }


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of the processor as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line.partition(":")[2].strip() for line in _lines(CPU_FACTS) if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def driver() -> str | None:
    """The version of NVIDIA's driver, such as 580.159.04."""
    words = [line.split("Module", 1)[1].split() for line in _lines(NVIDIA_DRIVER) if "Module" in line]
    numbers = [word for word in words[0] if word[:1].isdigit()] if words else []
    return numbers[0] if numbers else None


def commit(checkout: Path) -> str | None:
    """The commit that a folder under git stands at, 12 digits of it."""
    git = checkout / ".git"
    head = next(iter(_lines(git / "HEAD")), "")
    if not head.startswith("ref: "):
        return head[:12] or None
    name = head.removeprefix("ref: ")
    packed = (line.split() for line in _lines(git / "packed-refs") if line.endswith(f" {name}"))
    number = next(iter(_lines(git / name)), "") or next((words[0] for words in packed), "")
    return number[:12] or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
