"""Counts what work needs, without doing it: bytes alive at most, operations of its products, bytes moved beside them.

The modules run as they are on tensors without numbers (torch's meta device), so slices, in-place operations and views
are followed as on a device; nothing is estimated from formulas that could grow old.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_flop_count

_ATEN = torch.ops.aten


@dataclass(frozen=True)
class Count:
    """What some work needs.

    ``peak`` is the most bytes alive at once beside what was there before it, results included. ``flops`` counts
    matrix products, convolutions and attention, two for each multiply-add; ``moved`` the bytes that all other
    operations read and write.
    """

    peak: int
    flops: int
    moved: int

    def __add__(self, other: "Count") -> "Count":
        """This work, then the other."""
        return Count(max(self.peak, other.peak), self.flops + other.flops, self.moved + other.moved)

    def times(self, count: int) -> "Count":
        """The same work again and again."""
        return Count(self.peak, count * self.flops, count * self.moved)

    def at_once(self, count: int) -> "Count":
        """The same work on a batch that is so many times as large."""
        return Count(count * self.peak, count * self.flops, count * self.moved)


NOTHING = Count(0, 0, 0)


def counted(work: Callable[[], object]) -> Count:
    """Run ``work`` without gradients and count it; on any device, on meta tensors in no time and memory."""
    with torch.inference_mode(), Counter() as counter:
        result = work()  # kept until the end: it is alive too
    del result
    return counter.total()


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every operation of torch while it is entered.

    A storage counts from the operation that made it until Python lets it go; views share it, operations in place
    add nothing, and what existed before is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, int] = {}
        self._now = self._most = self._flops = self._moved = 0

    def total(self) -> Count:
        """All that was seen so far."""
        return Count(self._most, self._flops, self._moved)

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        for tensor in given:
            self._know(tensor, new=False)
        out = func(*args, **kwargs)
        made = list(_tensors(out))
        fresh = [self._know(tensor, new=True) for tensor in made]
        products = _products(func, args, made)
        self._flops += products
        if not products and given and (func._schema.is_mutable or any(fresh)):  # a view moves nothing
            self._moved += sum(tensor.nbytes for tensor in (*given, *made))
        return out

    def _know(self, tensor: Tensor, *, new: bool) -> bool:
        """Whether the storage was not known before; ``new`` ones count."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return False
        self._alive[key] = storage.nbytes() if new else 0
        self._now += self._alive[key]
        self._most = max(self._most, self._now)
        weakref.finalize(storage, self._drop, key)
        return True

    def _drop(self, key: int) -> None:
        self._now -= self._alive.pop(key, 0)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)


def _products(func: Any, args: tuple[Any, ...], made: list[Tensor]) -> int:
    """Operations of a product; 0 for everything else. Without gradients torch shows some of them whole."""
    packet = func.overloadpacket
    if packet in (_ATEN.linear, _ATEN.matmul):
        return 2 * made[0].numel() * int(args[0].shape[-1])
    if packet is _ATEN.baddbmm:  # the formula knows no dtype of the result
        return 2 * made[0].numel() * int(args[1].shape[-1])
    if packet is _ATEN.conv2d:
        return int(conv_flop_count(list(args[0].shape), list(args[1].shape), list(made[0].shape)))
    if packet is _ATEN.scaled_dot_product_attention:
        return int(sdpa_flop_count(*(x.shape for x in args[:3])))  # type: ignore[no-untyped-call]
    formula = flop_registry.get(packet)
    return 0 if formula is None else int(formula(*args, out_val=made[0]))
