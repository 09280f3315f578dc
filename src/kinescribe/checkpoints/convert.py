"""From one layout to another, every tensor accounted for and compared once it is written."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinescribe.catalog import Layout, model_spec
from kinescribe.checkpoints.added import Added, added, own, with_added
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.export import write_diffusers
from kinescribe.checkpoints.export_modelscope import write_modelscope
from kinescribe.checkpoints.load import locate, require_files
from kinescribe.checkpoints.lora import read_lora
from kinescribe.checkpoints.native import write_native
from kinescribe.checkpoints.source import Part, Source, shared_files, unneeded
from kinescribe.checkpoints.staging import Content, staged
from kinescribe.checkpoints.store import folder_bytes, require_intact
from kinescribe.errors import OptionError, WeightsError

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class ConvertReport:
    """What was written where. ``tensors`` counts those compared with the source once written, all equal."""

    source: str
    layout: Layout
    target: Path
    to: str
    dtype: str
    """The format asked for, or "as stored"."""
    tensors: int
    bytes: int
    loras: tuple[str, ...]
    """What was added to the weights."""
    left_out: tuple[str, ...]
    """Tensors of the source that the model does not need, by file and first name, with their number."""
    cannot_hold: tuple[str, ...]
    """What the source says and the target's layout has no place for."""


def convert(
    src: str | Path,
    out: str | Path,
    to: str = "native",
    dtype: str | None = None,
    *,
    variant: str | None = None,
    as_model: str | None = None,
    base: str | Path | None = None,
    overwrite: bool = False,
    loras: Sequence[tuple[str | Path, float]] = (),
    allow_partial: bool = False,
) -> ConvertReport:
    """Write the model at ``src`` (name, folder or bare file) to the folder ``out``, native, diffusers or modelscope.

    ``dtype`` is float16, bfloat16, float32 or None for the numbers as stored. The folder appears whole or not
    at all. ``variant``, ``as_model`` and ``base`` are those of ``load_components``; ``loras``, each with its scale,
    are added to the weights, ``allow_partial`` is that of ``read_lora``.

    Raises:
        OptionError: an unknown layout or dtype, or a folder that exists.
        WeightsError: anything wrong with the source, or a target layout that cannot hold the model.
        NumbersError, WriteError: numbers that do not fit ``dtype``; a place that cannot be written.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise OptionError(f"dtype={dtype!r}: use {', '.join(_DTYPES)}, or leave it out to keep the numbers")
    writer = _writer(to)
    spec = None if as_model is None else model_spec(as_model)
    source = describe(locate(src), variant=variant, spec=spec)
    if base is not None:
        source = source.completed_from(describe(locate(base), variant=variant, spec=None))
    require_files(source)
    require_intact(source.path)
    chosen = None if dtype is None else _DTYPES[dtype]
    configs = [part.config for part in source.parts if part.name in ("unet", "conditions", "text")]
    read = [read_lora(Path(path).expanduser(), configs, allow_partial=allow_partial) for path, _ in loras]
    sums = added([*own(source), *zip(read, (scale for _, scale in loras), strict=True)])
    with staged(Path(out), overwrite=overwrite) as folder:
        cannot_hold = writer(folder, _content(source, sums), chosen) or ()
        compared = _prove_equal(source, sums, describe(folder, variant=None, spec=None), chosen)
    return ConvertReport(
        source=str(source.path),
        layout=source.layout,
        target=Path(out),
        to=to,
        dtype=dtype or "as stored",
        tensors=compared,
        bytes=folder_bytes(Path(out)),
        loras=tuple(f"{lora}, scale {scale:g}" for lora, (_, scale) in zip(read, loras, strict=True)),
        left_out=tuple(line for parts in shared_files(source.parts).values() for line in _left_out(parts)),
        cannot_hold=cannot_hold,
    )


def _writer(to: str) -> Callable[[Path, Content, torch.dtype | None], tuple[str, ...] | None]:
    writers: dict[str, Callable[[Path, Content, torch.dtype | None], tuple[str, ...] | None]] = {
        "native": lambda folder, content, dtype: write_native(folder, content, dtype=dtype),
        "diffusers": lambda folder, content, dtype: write_diffusers(folder, content, dtype=dtype),
        "modelscope": lambda folder, content, dtype: write_modelscope(folder, content, dtype=dtype),
    }
    if to not in writers:
        raise OptionError(f"to={to!r}: use {', '.join(writers)}")
    return writers[to]


def _content(source: Source, sums: Added) -> Content:
    return Content(
        configs={part.name: part.config for part in source.parts},
        tensors={part.name: _tensors(part, sums) for part in source.parts},
        tokenizer=None if source.tokenizer is None else source.tokenizer.load(),
        schedule=source.schedule,
        spec=source.spec,
    )


def _tensors(part: Part, sums: Added) -> Iterator[tuple[str, Tensor]]:
    """The part's tensors under our names, with what is added; its files are opened when the first is asked for."""
    weights, names = part.open()
    yield from with_added(part.name, part.keymap.to_ours(lambda name: weights.read(names[name])), sums)


def _prove_equal(source: Source, sums: Added, target: Source, dtype: torch.dtype | None) -> int:
    """Compare what was written with what was read, number by number; how many tensors were."""
    count = 0
    for before, after in zip(source.parts, target.parts, strict=True):
        for (name, old), (_, new) in zip(_tensors(before, sums), _tensors(after, {}), strict=True):
            if not torch.equal(old if dtype is None else old.to(dtype), new):
                raise WeightsError(f"{before.name}: {name} came out different: nothing was kept, report this")
            count += 1
    return count


def _left_out(parts: list[Part]) -> list[str]:
    """What the files of these parts hold and none of them needs, a line for each group of names."""
    weights, _ = parts[0].open()
    groups: dict[str, list[str]] = {}
    for name in unneeded(parts, weights):
        head = re.match(r"transformer\.resblocks\.\d+|[^.]+", name)
        groups.setdefault(f"{weights.places[name].name}: {head[0] if head else name}", []).append(name)
    return [
        f"{head}.* ({len(names)} tensors)" if len(names) > 1 else f"{head.partition(': ')[0]}: {names[0]}"
        for head, names in groups.items()
    ]
