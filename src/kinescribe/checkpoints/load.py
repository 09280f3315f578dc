"""From a name or a folder to a loaded model: detect the layout, check every tensor, read, move."""

import gc
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinescribe.catalog import CATALOG, ModelSpec, find_spec, model_spec
from kinescribe.checkpoints.added import added, own, with_added
from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.read import WeightFile, is_finite, open_weights
from kinescribe.checkpoints.source import Part, PartName, Source, blank, shared_files, stand_in
from kinescribe.checkpoints.store import model_folder, require_intact, stored_folder
from kinescribe.checkpoints.upload import uploaded
from kinescribe.components import Components
from kinescribe.errors import OptionError, WeightsError
from kinescribe.models.skip_filter import SR600, FourierSkipFilter
from kinescribe.models.tokenizer import Tokenizer

Opened = tuple[WeightFile, dict[str, str]]
"""Open files, and for each name of a key map the name in them."""
FINGERPRINT_SAMPLES = 64
"""Numbers of each tensor that enter the model's fingerprint."""


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage: what is made meanwhile stays, and the more there is the longer each search takes."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


@uncollected()
def load_components(
    name_or_dir: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    as_model: str | None = None,
    base: str | Path | None = None,
) -> Components:
    """Load a model by name, or from a folder or bare file in any layout; the network is never touched.

    ``dtype`` None keeps the format of the UNet's file, for all parts. ``variant`` picks a set of files
    (``fp16``) and falls back to the plain one. ``as_model`` names the catalog row whose schedule and defaults
    apply; a bare file needs it unless its name is known. ``base`` is a folder that gives what this one lacks.

    Raises:
        OptionError: an unknown name.
        WeightsError: anything wrong with the files, in one line that names file and tensor.
    """
    spec = None if as_model is None else model_spec(as_model)
    source = describe(locate(name_or_dir), variant=variant, spec=spec)
    if base is not None:
        source = source.completed_from(describe(locate(base), variant=variant, spec=None))
    require_intact(source.path)
    return load_source(source, device=torch.device(device), dtype=dtype)


def locate(name_or_dir: str | Path) -> Path:
    """Where a model lies: a name of the catalog first, then a path, then a name of the store.

    Raises:
        WeightsError: a known model that is not on this computer, with the command that gets it.
        OptionError: neither a known name nor an existing path, or nothing at all.
    """
    name = str(name_or_dir)
    if not name.strip():
        raise OptionError("the model's name is empty: give a name of kinescribe models list, or a folder")
    spec = CATALOG.get(name)
    path = Path(name).expanduser()
    if spec is None and path.exists():
        return path
    stored = stored_folder(name)
    if spec is None and stored is not None:
        return stored
    if spec is None and (isinstance(name_or_dir, Path) or name.startswith(("/", "./", "../", "~"))):
        raise WeightsError(f"{name}: no such file or folder: correct the path")
    spec = spec or find_spec(name) or model_spec(name)
    return _installed(spec)


def load_source(source: Source, *, device: torch.device, dtype: torch.dtype | None) -> Components:
    """Build the networks on no device, then put every tensor in its place on ``device``."""
    require_files(source)
    opened = {
        part.name: (weights, part.matched(weights))
        for files, parts in shared_files(source.parts).items()
        for weights in (open_weights(files),)
        for part in parts
    }
    dtype = dtype or opened["unet"][0].dtype
    read = _in_order(source.parts, opened)
    with uploaded(read, device) if device.type == "cuda" else nullcontext(read) as arrived:
        tokenizer = None if source.tokenizer is None else source.tokenizer.load()
        _require_fit(source, tokenizer)
        digest, sums = hashlib.sha256(), added(own(source))
        networks: dict[str, Any] = {"text": None}
        for part in source.parts:
            network = _network(part, source.spec)
            tensors = with_added(part.name, part.keymap.to_ours(lambda _: next(arrived)), sums)
            networks[part.name] = _filled(network, part, tensors, digest, device, dtype)
    return Components(
        tokenizer=tokenizer,
        schedule=source.schedule,
        spec=source.spec,
        source=f"{source.layout}: {source.path}",
        model_hash=digest.hexdigest()[:16],
        **networks,
    )


def _in_order(parts: Iterable[Part], opened: Mapping[PartName, Opened]) -> Iterator[Tensor]:
    """What the files hold, in the order in which the key maps of the parts ask for it."""
    for part in parts:
        weights, names = opened[part.name]
        for entry in part.keymap.entries:
            yield from (weights.read(names[name]) for name in entry.foreign)


def require_files(source: Source) -> None:
    """Raise one ``WeightsError`` that names everything absent and what may stand in."""
    absent = [part for part in source.parts if not part.files]
    if source.lora is not None and not source.lora.is_file():
        raise WeightsError(f"{source.lora} is missing: fetch the model again")
    if not absent:
        return
    names = ", ".join(dict.fromkeys(part.wanted for part in absent))
    if any(part.name in ("unet", "conditions") for part in absent) or source.layout == "native":
        raise WeightsError(f"{source.path}: missing {names}: fetch them again (kinescribe models pull)")
    raise WeightsError(
        f"{source.path}: missing {names}: copy them from a folder of {stand_in(absent)}, "
        "or name such a folder as base (--base DIR)"
    )


def _require_fit(source: Source, tokenizer: Tokenizer | None) -> None:
    """Parts that come from different files must be of one model."""
    pairs = []
    if source.text is not None and tokenizer is not None:
        rows = source.text.keymap.shapes["tokens.weight"][0]
        if tokenizer.vocabulary > rows:
            pairs.append((f"tokenizer has {tokenizer.vocabulary} entries", f"text tower {rows}"))
    if source.vision is not None and source.conditions is not None:
        given = source.vision.keymap.shapes["project.weight"][0]
        taken = source.conditions.keymap.shapes["image.0.weight"][1]
        if given != taken:
            pairs.append((f"image tower gives {given} numbers", f"conditions take {taken}"))
    if pairs:
        raise WeightsError(
            f"{source.path}: its {pairs[0][0]}, its {pairs[0][1]}: one of the two belongs to another model"
        )


def _installed(spec: ModelSpec) -> Path:
    folder = model_folder(spec)
    if folder is not None:
        return folder
    if spec.embedded:
        raise WeightsError(
            f"the embedded model {spec.name} has no weights in this installation: install a released wheel, "
            "or give the folder of another model"
        )
    if not spec.sources:
        raise WeightsError(f"{spec.name} is not published as a folder: give the path of its weights")
    raise WeightsError(
        f"{spec.name} is not on this computer: get it with 'kinescribe models pull {spec.name}'"
    )


def _network(part: Part, spec: ModelSpec) -> nn.Module:
    """A network without numbers; what a row says of it and no tensor does is built in."""
    filtered = spec.refinement is not None and spec.refinement.filtered_skips
    return blank(part.config, FourierSkipFilter(SR600) if filtered and part.name == "unet" else None)


def _filled(
    network: nn.Module,
    part: Part,
    tensors: Iterable[tuple[str, Tensor]],
    digest: "hashlib._Hash",
    device: torch.device,
    dtype: torch.dtype,
) -> nn.Module:
    """The network with its tensors on ``device`` in ``dtype``; copies, so that the files may go."""
    state, samples = {}, []
    for name, tensor in tensors:
        samples.append(_sample(tensor))
        state[name] = tensor.to(device=device, dtype=dtype, copy=True)
    # What decides is gathered first: one wait for the device instead of one for each tensor.
    extremes = torch.stack([end for tensor in state.values() if tensor.numel() for end in tensor.aminmax()])
    if not bool(extremes.isfinite().all()):
        _name_the_culprit(part, state)
    for name, sample in zip(state, _gathered(samples), strict=True):
        digest.update(name.encode())
        digest.update(sample.numpy().tobytes())
    network.load_state_dict(state, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _name_the_culprit(part: Part, state: dict[str, Tensor]) -> None:
    """Raise for the first tensor with a NaN or infinity."""
    weights, names = part.open()
    for name, tensor in state.items():
        if is_finite(tensor):
            continue
        key = next(entry.foreign[0] for entry in part.keymap.entries if entry.ours == name)
        where = f"{weights.places[names[key]]}: {names[key]}"
        if is_finite(weights.read(names[key])):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{where} holds numbers too large for {kind}: load it in float32 or bfloat16")
        raise WeightsError(f"{where} holds numbers that are not finite: the file is damaged, fetch it again")


def _sample(tensor: Tensor) -> Tensor:
    """A few numbers of a tensor, for the fingerprint."""
    flat = tensor.reshape(-1)
    stride = max(1, flat.numel() // FINGERPRINT_SAMPLES)
    return flat[::stride][:FINGERPRINT_SAMPLES].to(torch.float32, copy=True)


def _gathered(samples: list[Tensor]) -> tuple[Tensor, ...]:
    """The samples on the processor, with one wait for the device."""
    return torch.split(torch.cat(samples).cpu(), [len(sample) for sample in samples])
