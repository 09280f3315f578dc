"""What LoRAs add to the tensors of a model as they are read: those that a user names, and that of its own folder."""

from collections.abc import Iterable, Iterator

from torch import Tensor

from kinescribe.checkpoints.lora import Lora, read_lora
from kinescribe.checkpoints.read import is_finite
from kinescribe.checkpoints.source import PartName, Source
from kinescribe.errors import NumbersError
from kinescribe.models.adapters import LowRank, Place, changed

Added = dict[Place, list[tuple[LowRank, float]]]
"""The changes of each weight, and how strong each is."""


def added(loras: Iterable[tuple[Lora, float]]) -> Added:
    """The changes of all, weight by weight, in the order of the LoRAs; with each its scale."""
    found: Added = {}
    for lora, scale in loras:
        for change in lora.adapter.changes:
            found.setdefault((change.network, change.weight), []).append((change, scale))
    return found


def own(source: Source) -> tuple[tuple[Lora, float], ...]:
    """The LoRA that belongs to a model, if any, read, and its scale; raises ``WeightsError`` as ``read_lora`` does."""
    if source.lora is None:
        return ()
    configs = [part.config for part in source.parts if part.name in ("unet", "conditions", "text")]
    return ((read_lora(source.lora, configs), 1.0),)


def with_added(
    part: PartName, tensors: Iterable[tuple[str, Tensor]], changes: Added
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a part, those that change with their changes in them.

    Raises:
        NumbersError: a sum that is too large for its format.
    """
    for name, tensor in tensors:
        here = changes.get((part, name))
        # On the processor wherever the tensor lies: the same sums to the last bit.
        whole = tensor if here is None else changed(tensor.cpu(), here)
        if here is not None and not is_finite(whole):
            raise NumbersError(
                f"with its LoRAs {name} holds numbers too large for its format: use a smaller scale"
            )
        yield name, whole.to(tensor.device)
