"""From a LoRA file or folder to changes of our weights: every tensor accounted for, and checked before it is read.

The layer that a pair is for is found through the tables of ``keymap``, under diffusers' and ModelScope's names. A
LoRA that does not fit as a whole is refused: one that does nothing, or half of what it was trained for, looks like
one that works.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from kinescribe.checkpoints.keymap import trimmed
from kinescribe.checkpoints.lora_file import LoraFile, open_lora, sum_of
from kinescribe.checkpoints.lora_layers import Layer, Layers, layers_of
from kinescribe.checkpoints.lora_names import Pair
from kinescribe.checkpoints.lora_order import GUIDANCE_LAYER, rows_of_layers
from kinescribe.checkpoints.read import is_finite
from kinescribe.checkpoints.source import Config
from kinescribe.errors import WeightsError
from kinescribe.models.adapters import Adapter, LowRank

_FORMATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA that fits a model.

    ``matched`` of its ``total`` layers are in the model, ``program`` wrote it or a file like it, ``ranks`` are the
    least and the greatest. ``notes`` is what a user should know.
    """

    adapter: Adapter
    program: str
    matched: int
    total: int
    ranks: tuple[int, int]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        low, high = self.ranks
        rank = f"rank {low}" if low == high else f"ranks {low} to {high}"
        return f"{self.adapter.file}: matched {self.matched} of {self.total} layers, {rank} ({self.program})"


@dataclass(frozen=True, kw_only=True)
class LoraFacts:
    """What can be said of a LoRA without a model; ``numbers`` counts those of all pairs, ``bytes`` the files."""

    path: str
    files: tuple[str, ...]
    sha256: str
    program: str
    unet_layers: int
    text_layers: int
    ranks: tuple[int, int]
    scales: tuple[float, ...]
    numbers: int
    bytes: int
    spare: int


@dataclass(frozen=True)
class _Match:
    """A pair of an open file, what its layer is called there, and that layer of the model; None if there is none."""

    file: LoraFile
    pair: Pair
    label: str
    layer: Layer | None

    @property
    def rank(self) -> int:
        down, _ = self.file.shapes(self.pair)
        return down[0] // self.kernel

    @property
    def kernel(self) -> int:
        """The length of the kernel, where both sides hold it."""
        return (
            self.layer.shape[2] if self.pair.whole_kernel and self.layer and len(self.layer.shape) > 2 else 1
        )


def read_lora(
    path: Path, configs: Iterable[Config], *, name: str | None = None, allow_partial: bool = False
) -> Lora:
    """Read the LoRA at ``path``, a file or folder, for the networks of these configs (UNet, conditions, text tower).

    ``allow_partial`` takes one of which some layers are not in the model, but never one of other shapes.

    Raises:
        WeightsError: no LoRA, a damaged one, one of a kind that is not read, one for another model, or one that is
            only in part for this one; with counts and examples.
    """
    path, layers = path.absolute(), layers_of(configs)
    files = open_lora(path)
    every = [match for file in files for match in _matches(file, layers)]
    idle = [m for m in every if m.layer is None and layers.never_runs(m.pair.part, m.pair.module)]
    found = [m for m in every if m.layer is not None]
    spare = [name for file in files for name in _spare(file, layers)]
    absent = [m.label for m in every if m.layer is None and m not in idle] + spare
    _require_sides(path, every)
    _require_shapes(path, found)
    _require_enough(path, len(found), absent, allow_partial=allow_partial)
    changes = tuple(_change(match) for match in found)
    return Lora(
        adapter=Adapter(name=name or path.stem, file=path.name, sha256=sum_of(files), changes=changes),
        program=_program(files),
        matched=len(found),
        total=len(found) + len(absent),
        ranks=_range(m.rank for m in found),
        notes=tuple(_notes(files, layers, found, idle, absent)),
    )


def describe_lora(path: Path) -> LoraFacts:
    """What a LoRA is, told from its own files alone; the errors are those of ``open_lora``."""
    files = open_lora(path)
    pairs = [(file, pair) for file in files for pair in file.pairs]
    _require_sides(path, [_Match(file, pair, pair.module, None) for file, pair in pairs])
    shapes = [shape for file, pair in pairs for shape in file.shapes(pair)]
    ranks = [file.shapes(pair)[0][0] for file, pair in pairs]
    scales = {round(f.scale(p, r), 6) for (f, p), r in zip(pairs, ranks, strict=True)}
    return LoraFacts(
        path=str(path.absolute()),
        files=tuple(file.path.name for file in files),
        sha256=sum_of(files),
        program=_program(files),
        unet_layers=sum(pair.part == "unet" for _, pair in pairs),
        text_layers=sum(pair.part == "text" for _, pair in pairs),
        ranks=_range(ranks),
        scales=tuple(sorted(scales)[:10]),
        numbers=sum(map(prod, shapes)),
        bytes=sum(file.path.stat().st_size for file in files),
        spare=sum(len(file.spare) for file in files),
    )


def _matches(file: LoraFile, layers: Layers) -> Iterator[_Match]:
    for part in ("unet", "text"):
        pairs = [pair for pair in file.pairs if pair.part == part]
        if pairs and pairs[0].numbered:
            names = _names_of_row(file, pairs, part, layers)
        else:
            names = [pair.module for pair in pairs]
        for pair, name in zip(pairs, names, strict=True):
            yield _Match(file, pair, name, layers.find(part, name))


def _names_of_row(file: LoraFile, pairs: Sequence[Pair], part: str, layers: Layers) -> Sequence[str]:
    """Which layers the pairs of a list without names are for: those in whose order all shapes fit.

    Raises:
        WeightsError: there is no such order, or more than one.
    """
    row = sorted(pairs, key=lambda pair: int(pair.module))

    def fits(i: int, name: str) -> bool:
        match = _Match(file, row[i], name, layers.find(part, name))
        return not _misfit(match)

    classes = file.classes.get("unet" if part == "unet" else "text_encoder")
    ways = rows_of_layers(layers.ordered[part], len(row), fits, classes)
    if len(ways) != 1:
        how = f"in {len(ways)} ways" if ways else "in no order"
        raise WeightsError(
            f"{file.path}: {len(row)} pairs without names, whose shapes fit the model's layers {how}: it was made "
            "for another model, or needs to be saved with names"
        )
    by_pair = dict(zip((pair.module for pair in row), ways[0], strict=True))
    return [by_pair[pair.module] for pair in pairs]


def _spare(file: LoraFile, layers: Layers) -> list[str]:
    """Tensors that no pair needs; the whole model that InstructVideo's files hold as well does not count."""
    whole = any(pair.program == "VGen" for pair in file.pairs)
    return [name for name in file.spare if not (whole and name.removeprefix("module.") in layers.names)]


def _require_sides(path: Path, matches: Sequence[_Match]) -> None:
    """The sides of each pair must be matrices or kernels of one rank, and no layer may come twice."""
    uneven = [m for m in matches if _rank_fault(m)]
    if uneven:
        raise WeightsError(
            f"{path}: {len(uneven)} of {len(matches)} pairs are no product of low rank ({uneven[0].label}: "
            f"{_rank_fault(uneven[0])}): the file is damaged, fetch it again"
        )
    places = [(m.layer.network, m.layer.weight, m.layer.rows) for m in matches if m.layer is not None]
    if len(set(places)) < len(places):
        twice = next(place for i, place in enumerate(places) if place in places[:i])
        raise WeightsError(f"{path}: two pairs are for the same layer, {twice[1]}: refused, fetch it again")


def _rank_fault(match: _Match) -> str:
    down, up = match.file.shapes(match.pair)
    if min(len(down), len(up)) < 2:
        return f"sides of shape {down} and {up}"
    if down[0] != up[1]:
        return f"down has rank {down[0]}, up {up[1]}"
    return "" if down[0] else "rank 0"


def _require_shapes(path: Path, found: Sequence[_Match]) -> None:
    """Nothing has been read yet: what passes here is no larger than the layers that it is for."""
    wrong = [m for m in found if _misfit(m)]
    if wrong:
        raise WeightsError(
            f"{path}: made for another model, {len(wrong)} of {len(found)} layers have other shapes "
            f"({wrong[0].label}: {_misfit(wrong[0])}): load it into the model it was made for"
        )


def _misfit(match: _Match) -> str:
    """Why a pair does not fit its layer; empty if it does."""
    if match.layer is None or _rank_fault(match):
        return _rank_fault(match) or "no such layer"
    (down, up), (out, *into), kernel = match.file.shapes(match.pair), match.layer.shape, match.kernel
    wanted = (into[0] * kernel,) if match.pair.whole_kernel else tuple(into)
    if trimmed(down[1:]) != trimmed(wanted):
        return f"its down side takes {down[1:]}, the layer {wanted}"
    if up[0] != out * kernel or prod(up[2:]) != 1:
        return f"its up side gives {(up[0], *up[2:])}, the layer {out * kernel}"
    if match.rank > max(out, prod(into)) or down[0] % kernel:
        return f"rank {match.rank} for a layer of {out} x {prod(into)}"
    return ""


def _require_enough(path: Path, found: int, absent: Sequence[str], *, allow_partial: bool) -> None:
    total, shown = found + len(absent), ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    if not found:
        raise WeightsError(
            f"{path}: none of its {total} layers is in the model ({shown}): load it into the model it was made for"
        )
    if absent and not allow_partial:
        why = ", which reads the guidance scale" if GUIDANCE_LAYER in absent else ""
        raise WeightsError(
            f"{path}: matched {found} of {total} layers, the model has no place for {shown}{why}: load it into the "
            "model it was made for, or take the rest alone (--allow-partial, allow_partial=True)"
        )


def _change(match: _Match) -> LowRank:
    assert match.layer is not None
    file, pair, layer = match.file, match.pair, match.layer
    averaged = match.kernel > 1 and layer.shape[3] == 1
    return LowRank(
        network=layer.network,
        weight=layer.weight,
        rows=layer.rows,
        down=_side(file, pair.down),
        up=_side(file, pair.up),
        scale=file.scale(pair, match.rank),
        averaged=averaged,
    )


def _side(file: LoraFile, name: str) -> Tensor:
    """One side as a matrix of its own memory, so that the file may go."""
    tensor = file.weights.read(name).detach()
    if tensor.dtype not in _FORMATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise WeightsError(f"{file.path}: {name} is in {kind}: only floats of 16 to 64 bits are read")
    if not is_finite(tensor):
        raise WeightsError(f"{file.path}: {name} holds numbers that are not finite: damaged, fetch it again")
    return tensor.flatten(1).clone(memory_format=torch.contiguous_format)


def _notes(
    files: Sequence[LoraFile],
    layers: Layers,
    found: Sequence[_Match],
    idle: Sequence[_Match],
    absent: Sequence[str],
) -> Iterator[str]:
    weights = [m.layer.weight for m in found if m.layer is not None and m.layer.network == "unet"]
    if weights and not any("temporal" in weight for weight in weights):
        yield "changes spatial layers alone, as a LoRA made for pictures does: motion stays as it was"
    if absent:
        yield f"left out: {len(absent)} layers or tensors, such as {absent[0]}"
    if idle:
        yield f"left out: {len(idle)} layers of the text tower that never run"
    if any(len(_spare(file, layers)) < len(file.spare) for file in files):
        yield "the file holds a whole model as well, of which nothing was taken"
    if any(file.alpha_is_unknown for file in files):
        yield "adapter_config.json is not beside it, so that its alpha is unknown: taken as its rank"


def _program(files: Sequence[LoraFile]) -> str:
    return " and ".join(dict.fromkeys(pair.program for file in files for pair in file.pairs))


def _range(numbers: Iterable[int]) -> tuple[int, int]:
    numbers = list(numbers)
    return min(numbers), max(numbers)
