"""What is made of weights and kept beside them, while memory is plentiful and the weights stay as they are."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kinescribe.ops.version import version_of


class Keeps(nn.Module):
    """A module that can keep what it would else make of its weights at every call, or what only pays when kept.

    What is kept between :meth:`keep` and :meth:`release` counts for nothing once a weight has been written to.
    """

    _kept: tuple[Tensor, ...] | None = None
    _key: object = None

    def sources(self) -> Sequence[Tensor]:
        """The weights that are read."""
        raise NotImplementedError

    def made(self) -> tuple[Tensor, ...]:
        """What is made of them."""
        raise NotImplementedError

    @torch.inference_mode()
    def keep(self) -> None:
        """Make it of the weights as they are now; in the same memory, if only their numbers have changed.

        Nothing is kept of tensors made for inference: those count no changes.
        """
        key = self._now()
        if key == self._key or any(source.is_inference() for source in self.sources()):
            return
        made = self.made()
        if self._kept is not None and [_like(part) for part in self._kept] == [_like(part) for part in made]:
            for old, new in zip(self._kept, made, strict=True):
                old.copy_(new)
        else:
            self._kept = made
        self._key = key

    def kept(self) -> tuple[Tensor, ...] | None:
        """What is kept, if that is of the weights as they are now."""
        return self._kept if self._kept is not None and self._key == self._now() else None

    @property
    def kept_at(self) -> tuple[int, ...]:
        """Where that lies in memory."""
        return () if self._kept is None else tuple(part.data_ptr() for part in self._kept)

    def release(self) -> None:
        """Give its memory back."""
        self._kept = self._key = None

    def __getstate__(self) -> dict[str, object]:
        """A copy of the module has what is kept still to make: nobody would let go of it."""
        return {name: part for name, part in self.__dict__.items() if name not in ("_kept", "_key")}

    def _now(self) -> object:
        """What changes with the weights; another device or format is another place."""
        return [(source.data_ptr(), version_of(source)) for source in self.sources()]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Keeps":
        """Every way to another device or number format comes by here."""
        self.release()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _like(part: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return part.shape, part.dtype, part.device
