"""Folders that appear whole or not at all, and the tensors written into them."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinescribe.catalog import ModelSpec
from kinescribe.checkpoints.read import is_finite
from kinescribe.checkpoints.source import Config, PartName
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import NumbersError, OptionError, WriteError
from kinescribe.models.tokenizer import Tokenizer

TensorSet = Iterable[tuple[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Content:
    """A whole model to be written, its tensors under our names; each set is gone through once.

    ``tokenizer`` is None for a model that reads no text.
    """

    configs: Mapping[PartName, Config]
    tensors: Mapping[PartName, TensorSet]
    tokenizer: Tokenizer | None
    schedule: ScheduleConfig
    spec: ModelSpec


@contextmanager
def staged(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its place when the block ends well.

    Everything in it is flushed to the disk first; after a failure nothing is left.

    Raises:
        OptionError: ``target`` exists and holds something, and ``overwrite`` is not set.
        WriteError: the disk is full or the place cannot be written.
    """
    target = target.absolute()
    if target.exists() and not overwrite and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target} exists already: choose another folder, or overwrite it (--overwrite)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror}): choose another folder") from error
    try:
        yield folder
        for path in (*folder.rglob("*"), folder):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
            flush(path)
        _swap(folder, target)
        flush(target.parent)
    except OSError as error:
        raise WriteError(
            f"{target}: not written ({error.strerror or error}): free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_tensors(path: Path, items: TensorSet, *, dtype: torch.dtype | None) -> None:
    """Write a safetensors file; raises ``NumbersError`` for a number that is not finite once converted."""
    save_tensors(path, dict(converted(items, dtype=dtype)))


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write contiguous tensors on the CPU as a safetensors file; raises ``OSError`` where that fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # its writer hides the system's error, such as a full disk, behind one that is no OSError
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def converted(items: TensorSet, *, dtype: torch.dtype | None) -> Iterable[tuple[str, Tensor]]:
    """Tensors ready to be written: on the CPU, contiguous, owning their memory, finite, in ``dtype``."""
    for name, tensor in items:
        ready = tensor.detach().to(device="cpu", dtype=dtype if tensor.is_floating_point() else None)
        if not is_finite(ready):
            kind = str(ready.dtype).removeprefix("torch.")
            raise NumbersError(f"{name} holds numbers that are not finite in {kind}: nothing was written")
        ready = ready.contiguous()
        whole = ready.untyped_storage().nbytes() == ready.numel() * ready.element_size()
        yield name, ready if whole else ready.clone()


def _swap(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    old = folder.with_suffix(".old")
    target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
