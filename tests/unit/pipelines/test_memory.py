"""Memory that runs out: told apart from other errors, named with its stage and remedies, exit code 4."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinescribe.errors import MemoryLimitError
from kinescribe.pipelines import memory
from kinescribe.pipelines.memory import (
    REMEDIES,
    free_bytes,
    free_on,
    is_out_of_memory,
    peak_bytes,
    stage,
)

TORCHS_WORDS = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 16 bytes."


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError(TORCHS_WORDS), RuntimeError("MPS: out of memory")],
)  # fmt: skip
def test_every_way_to_say_it_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(MemoryLimitError, match="out of memory while denoising") as caught, stage("denoising"):
        raise error
    assert caught.value.exit_code == 4 and REMEDIES["denoising"] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_pass_through(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error), match=str(error)), stage("decoding"):
        raise error


def test_peak_and_free_memory_are_plausible() -> None:
    assert peak_bytes() > 1e7
    free = free_bytes()
    assert free is None or free > 1e6


def test_a_containers_limit_counts_where_it_is_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 12345)
    assert free_bytes() == free_on(torch.device("cpu")) == 12345
    monkeypatch.setattr(memory, "memory_left", lambda: 0)
    assert free_bytes() == 0


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_of_a_gpu_the_granted_share_counts_by_its_number(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = 1
    for name, told in {
        "mem_get_info": lambda _: (600, 1000),
        "memory_allocated": lambda _: 100,
        "memory_reserved": lambda _: 150,
        "current_device": lambda: here,
        "get_per_process_memory_fraction": {here: 0.5}.__getitem__,  # which takes nothing but a number
    }.items():
        monkeypatch.setattr(torch.cuda, name, told)
    assert free_on(torch.device(device)) == 500 - 100


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space, which only Linux keeps to")
def test_real_shortage_is_exit_4_and_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import resource, sys, torch\nfrom kinescribe.cli.app import run\n"
        "import kinescribe.pipelines.load\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000, used + 400_000_000))\n"
        "sys.exit(run(['generate', 'a ball', '--size', '1024x1024', '--frames', '64', '--steps', '1', '-o', 'c.mp4']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 4 and last.startswith("error: out of memory while "), done.stderr
    assert "--" in last and "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("backend", ["native", "cudaMallocAsync"])
def test_pieces_grow_from_the_first_time_on(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: backend)
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append, raising=False)
    memory.leave_no_gaps.cache_clear()
    memory.leave_no_gaps()
    memory.leave_no_gaps()
    memory.leave_no_gaps.cache_clear()
    assert told == (["expandable_segments:True"] if backend == "native" else [])
