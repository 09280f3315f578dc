"""`kinescribe doctor`: one line for each thing that can be wrong, with its fix."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kinescribe.cli import flags
from kinescribe.cli.terminal import Speaker, Terminal
from kinescribe.errors import KinescribeError
from kinescribe.pipelines.memory import free_bytes

OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 10)
LITTLE_MEMORY = 2e9
LITTLE_DISK = 1e9
EXTRAS = {"hub": "huggingface_hub", "train": "matplotlib"}

Quick = Annotated[bool, flags.Flag, Parameter(help="Leave out what needs torch: devices and the self-test.")]
SelfTest = Annotated[bool, flags.Flag, Parameter(help="Also make a small clip with the embedded model.")]


@dataclass(frozen=True)
class Finding:
    """The verdict on one thing; `fix` is empty if there is nothing to do."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    detail: str
    fix: str = ""


def doctor(
    *, quick: Quick = False, self_test: SelfTest = False, as_json: flags.AsJson = False, terminal: Speaker
) -> int:
    """Check this machine and installation, with a fix for each fault; exit code 1 if something fails."""
    findings = []
    for check in _checks(quick=quick, self_test=self_test):
        for finding in check():
            findings.append(finding)
            if not as_json:
                _print(finding, terminal)
    if as_json:
        terminal.data([asdict(finding) for finding in findings])
    return int(any(finding.verdict == "fail" for finding in findings))


def _checks(*, quick: bool, self_test: bool) -> Iterator[Callable[[], Iterator[Finding]]]:
    yield from (check_python, check_torch, check_memory, check_disk, check_codecs, check_models, check_extras)
    if not quick:
        yield check_devices
    if self_test:
        yield check_clip


def _print(finding: Finding, terminal: Terminal) -> None:
    fix = f"; {finding.fix}" if finding.fix else ""
    terminal.result(f"{finding.verdict}  {finding.name}: {finding.detail}{fix}")


def check_python() -> Iterator[Finding]:
    """The interpreter's version."""
    have = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info[:2] >= OLDEST_PYTHON
    yield Finding("python", "pass" if good else "fail", have, "" if good else "install Python 3.11 or newer")


def check_torch() -> Iterator[Finding]:
    """The installed torch, without importing it."""
    wanted = ".".join(map(str, OLDEST_TORCH))
    fix = f"pip install 'torch>={wanted}'"
    try:
        have = version("torch")
    except PackageNotFoundError:
        yield Finding("torch", "fail", "not installed", fix)
        return
    numbers = tuple(int(part) for part in have.split("+")[0].split(".")[:2] if part.isdigit())
    good = numbers >= OLDEST_TORCH
    yield Finding(
        "torch", "pass" if good else "fail", have, "" if good else f"older ones load files unsafely: {fix}"
    )


def check_devices() -> Iterator[Finding]:
    """What a model can run on here."""
    try:
        import torch

        from kinescribe.pipelines.device import available_devices
    except (ImportError, OSError) as error:
        yield Finding("device", "fail", f"torch cannot be imported ({error})", "reinstall torch")
        return
    devices = available_devices()
    detail = ", ".join(devices)
    if "cuda" in devices:
        free, total = torch.cuda.mem_get_info()
        detail += f"; {torch.cuda.get_device_name()}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if devices == ["cpu"]:
        detail += (
            f" with {torch.get_num_threads()} threads: right for the embedded model, slow for large ones"
        )
    yield Finding("device", "pass", detail)


def check_memory() -> Iterator[Finding]:
    """Free main memory, where the system tells it."""
    free = free_bytes()
    if free is None:
        yield Finding("memory", "pass", "not told by this system")
        return
    good = free >= LITTLE_MEMORY
    fix = "" if good else "close other programs: the embedded model needs about 2 GB"
    yield Finding("memory", "pass" if good else "warn", f"{free / 1e9:.1f} GB free", fix)


def check_disk() -> Iterator[Finding]:
    """Free space for clips here, and for models in the store."""
    from kinescribe.checkpoints.store import home

    for name, folder in (("disk here", Path.cwd()), ("disk for models", home())):
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        good = free >= LITTLE_DISK
        verdict: Literal["pass", "warn"] = "pass" if good else "warn"
        yield Finding(name, verdict, f"{free / 1e9:.1f} GB free", "" if good else "free some space")


def check_codecs() -> Iterator[Finding]:
    """Encoders that PyAV brings, by writing a small clip in every format."""
    import numpy as np

    from kinescribe.media.output import EXTENSIONS
    from kinescribe.media.write import write_video

    black = np.zeros((2, 16, 16, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for extension in EXTENSIONS:
            try:
                write_video(black, 8.0, Path(folder) / f"clip{extension}")
            except (KinescribeError, ImportError) as error:
                fix = "pip install --force-reinstall av pillow"
                verdict: Literal["warn", "fail"] = "fail" if extension == ".mp4" else "warn"
                yield Finding(f"format {extension}", verdict, str(error), fix)
            else:
                yield Finding(f"format {extension}", "pass", "written and read back")


def check_models() -> Iterator[Finding]:
    """Every file of every model on this computer against its recorded sum."""
    from kinescribe.checkpoints.store import list_models, recorded_sums, verify_files

    for model in list_models():
        embedded = model.spec is not None and model.spec.embedded
        if model.path is None:
            if embedded:
                fix = "reinstall kinescribe, or use --model with another one"
                yield Finding(f"model {model.name}", "fail", "its weights are not in this installation", fix)
            continue
        fix = "reinstall kinescribe" if embedded else f"kinescribe models pull {model.name}"
        try:
            sums = recorded_sums(model.path)
        except KinescribeError as error:
            yield Finding(f"model {model.name}", "fail", str(error), fix)
            continue
        if sums is None:
            yield Finding(f"model {model.name}", "warn", "no sums recorded, so changes cannot be seen", fix)
            continue
        bad = [v for v in verify_files(model.path, sums, cached=True) if v.state != "intact"]
        if bad:
            detail = f"{bad[0].path.name} is {bad[0].state}: {bad[0].detail}"
            yield Finding(f"model {model.name}", "fail", detail, fix)
        else:
            yield Finding(f"model {model.name}", "pass", f"{len(sums)} files intact")


def check_extras() -> Iterator[Finding]:
    """Optional packages."""
    from kinescribe.checkpoints.extras import too_old

    for extra, package in EXTRAS.items():
        try:
            fault, have = too_old(extra, package), version(package)
            fix = f"pip install --upgrade 'kinescribe[{extra}]'" if fault else ""
            yield Finding(f"extra {extra}", "warn" if fault else "pass", fault or f"{package} {have}", fix)
        except PackageNotFoundError:
            yield Finding(
                f"extra {extra}", "pass", "not installed", f"optional: pip install 'kinescribe[{extra}]'"
            )


def check_clip() -> Iterator[Finding]:
    """A small clip with the embedded model, written and read back."""
    started = time.monotonic()
    try:
        import kinescribe
        from kinescribe.media.read import read_video

        video = kinescribe.load()("a red ball", steps=4, seed=1)
        with tempfile.TemporaryDirectory() as folder:
            frames = len(read_video(video.save(Path(folder) / "clip.mp4")).frames)
    except (KinescribeError, ImportError) as error:
        yield Finding("self-test", "fail", str(error), "see the lines above")
        return
    yield Finding("self-test", "pass", f"{frames} frames in {time.monotonic() - started:.1f} s")
