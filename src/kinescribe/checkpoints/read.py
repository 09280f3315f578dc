"""The only door to weight files: safetensors and PyTorch archives, checked before anything is believed.

Nothing in a file is ever run. A pickle is read by torch's restricted reader alone; classes of other packages
that published files are known to hold become empty shells, and any other class is refused, without a second try.
"""

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.checkpoints.files import refuse_strangers, safetensors_header
from kinescribe.errors import WeightsError

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# Classes that training frameworks left in published files: names of things we neither need nor import.
_FOREIGN_CLASSES = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.progress.tqdm_progress.TQDMProgressBar",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.StringNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.BooleanNode",
    "argparse.Namespace",
    "collections.defaultdict",
    "pathlib.PurePosixPath",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",
    "typing.Any",
)


class Shell:
    """What a foreign object becomes: takes any arguments, any state and any items, and keeps nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> "Shell":  # noqa: D102 - as every class has it
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...


@dataclass(frozen=True)
class WeightFile:
    """The tensors of one network in one or more files: shapes and dtypes known, numbers read on demand."""

    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    places: dict[str, Path]
    """The file that holds each tensor."""
    readers: dict[Path, Callable[[str], Tensor]]

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU, in its own dtype; it may be a view of the file."""
        return self.readers[self.places[name]](name)

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of most of its numbers."""
        counts: dict[torch.dtype, int] = {}
        for name, dtype in self.dtypes.items():
            if dtype.is_floating_point:
                counts[dtype] = counts.get(dtype, 0) + math.prod(self.shapes[name])
        return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)


def open_weights(files: Iterable[Path]) -> WeightFile:
    """Open the file or the shards of one network.

    Raises:
        WeightsError: a file that is absent, cut off, no weight file, unsafe, or two that hold the same tensor.
    """
    whole = WeightFile((), {}, {}, {}, {})
    for path in files:
        part = _open_one(path)
        twice = next((name for name in part.shapes if name in whole.shapes), None)
        if twice is not None:
            raise WeightsError(
                f"{path}: {twice} is in {whole.places[twice].name} too: fetch both files again"
            )
        whole = WeightFile(
            (*whole.files, path),
            whole.shapes | part.shapes,
            whole.dtypes | part.dtypes,
            whole.places | part.places,
            whole.readers | part.readers,
        )
    return whole


def is_finite(tensor: Tensor) -> bool:
    """No NaN and no infinity; the extremes tell, at many times the speed of looking at every number."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _open_one(path: Path) -> WeightFile:
    refuse_strangers(path)
    with path.open("rb") as stream:
        start = stream.read(9)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _open_safetensors(path)
    return _open_archive(path)


def _open_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    header = safetensors_header(path)
    try:
        handle = safe_open(str(path), framework="pt", device="cpu")
    except SafetensorError as error:
        raise WeightsError(f"{path}: {error}: fetch it again") from error
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    dtypes = {name: _DTYPES.get(entry["dtype"], torch.int64) for name, entry in header.items()}
    return WeightFile((path,), shapes, dtypes, dict.fromkeys(shapes, path), {path: handle.get_tensor})


def _open_archive(path: Path) -> WeightFile:
    content = _unpickled(path)
    nested = content.get("state_dict") if isinstance(content, dict) else None
    state = nested if isinstance(nested, dict) else content
    if isinstance(state, list) and all(isinstance(value, Tensor) for value in state):
        state = dict(enumerate(state))  # as a trainer of adapters writes them: their places are their names
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a table of tensors")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors: is it the right file?")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    return WeightFile((path,), shapes, dtypes, dict.fromkeys(shapes, path), {path: tensors.__getitem__})


def _unpickled(path: Path) -> Any:
    shells: list[Any] = [(type(name.rpartition(".")[2], (Shell,), {}), name) for name in _FOREIGN_CLASSES]
    try:
        with torch.serialization.safe_globals(shells), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of old pickle protocols, which are no fault
            # Only zip archives can be mapped; older files are read whole.
            return torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"(?:GLOBAL|global:?|function|call) `?([\w.]+\.[\w.]+)", str(error))
        what = f"wants to call {culprit[1]}" if culprit else "is no plain table of tensors"
        raise WeightsError(
            f"{path}: refused, its pickle {what}: take a safetensors file of the same model"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path}: {path.stat().st_size} bytes, cut off or no weight file ({first[:120]}): fetch it again"
        ) from error
