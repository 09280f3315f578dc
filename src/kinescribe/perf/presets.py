"""Named presets: less work or less exact work, by choice; docs/presets.md states gain and difference."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kinescribe.components import Components
from kinescribe.diffusion.denoiser import Branch
from kinescribe.diffusion.guidance import EVERYWHERE, Interval
from kinescribe.models.conditions import Conditioning
from kinescribe.ops.linear_fp8 import Copies, in_eight_bits
from kinescribe.perf.fp8 import copies_of
from kinescribe.perf.reuse import PUBLISHED, Policy, Reused


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a preset does: steps that ``reuse`` the work of others, matrix products in ``eight_bits``."""

    reuse: Policy | None = None
    eight_bits: bool = False

    @property
    def guided(self) -> Interval:
        """The noise levels at which guidance counts."""
        return EVERYWHERE if self.reuse is None else self.reuse.guided


EXACT = Speed()
SPEEDS: dict[str | None, Speed] = {
    None: EXACT,
    "exact": EXACT,
    "reuse": Speed(reuse=PUBLISHED),
    "fast8": Speed(eight_bits=True),
    "reuse+fast8": Speed(reuse=PUBLISHED, eight_bits=True),
}
"""By the names that a request may give; not typed as there, since the examinations run without what requests need."""


class Asked:
    """The UNet in a loop over ``total`` steps, called as itself, in the way that a speed has it."""

    def __init__(
        self, components: Components, speed: Speed, conditions: Mapping[Branch, Conditioning], total: int
    ) -> None:
        self._components, self._speed = components, speed
        self._copies: Copies | None = None
        self._reused = (
            None if speed.reuse is None else Reused(components.through, conditions, speed.reuse, total)
        )

    def __call__(self, x: Tensor, t: Tensor, told: Conditioning) -> Tensor:
        """As ``components.predict``, exactly that without a preset."""
        run = self._reused or self._components.predict
        if not self._speed.eight_bits:
            return run(x, t, told)
        if self._copies is None:  # now, since the weights have come to where they work
            self._copies = copies_of(self._components.unet)
        with in_eight_bits(self._copies):
            return run(x, t, told)

    def at_window(self, index: int) -> None:
        """The next calls are about the frames of this window, from 0."""
        if self._reused is not None:
            self._reused.window = index

    def after_step(self) -> None:
        """The next calls belong to the next step."""
        if self._reused is not None:
            self._reused.step += 1
