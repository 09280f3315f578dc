"""What a container or a job queue grants of a machine: memory and processor time, by Linux's control groups."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60
"""Version 1 writes a huge number for no limit."""


def memory_left(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that this process may still take, or None without a limit. Cached files count as free."""
    left = []
    for folder in _folders(root, "memory", membership):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None and most < UNLIMITED:
                left.append(max(most - now + _cached(folder / "memory.stat"), 0))
    return min(left, default=None)


def cores(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """Processors that this process may use at once: those it may run on, and its quota of time, rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    for folder in _folders(root, "cpu", membership):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us"),
            _text(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
            count = min(count, max(-(-int(words[0]) // int(words[1])), 1))
    return count


def _folders(root: Path, controller: str, membership: Path) -> Iterator[Path]:
    """The folders of this process's group and of those around it, in version 2 and in version 1."""
    for line in _text(membership).splitlines():
        _, names, group = (*line.split(":", 2), "", "")[:3]
        if names and controller not in names.split(","):
            continue
        top = root / controller if names else root
        folder = top / group.strip("/")
        yield folder
        yield from (outer for outer in folder.parents if outer.is_relative_to(top))


def _cached(path: Path) -> int:
    """Bytes of files that the system drops when memory is short."""
    words = dict(line.split(maxsplit=1) for line in _text(path).splitlines() if " " in line)
    return int(words.get("inactive_file", words.get("total_inactive_file", 0)))


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
