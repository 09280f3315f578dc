"""One sprite in the making: pieces of paper laid on each other, each with bevel, tone and drop shadow.

The picture is kept apart from the body colour: a texel's colour is `body * colour + accent`, so one
drawing serves every colour and every light.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kinescribe.world.shapes import smooth

HALF_WIDTH = 1.4
"""Half the width of a sprite's drawing board; the sprite itself fits a circle of radius about 1."""

RGB = tuple[float, float, float]


class Board:
    """A drawing board of `texels` x `texels` for several softnesses at once.

    `soft` holds, per level, how wide one output pixel is in sprite units: edges are that soft.
    """

    def __init__(self, texels: int, soft: Float[Tensor, " l"]) -> None:
        step = 2 * HALF_WIDTH / texels
        axis = (torch.arange(texels, device=soft.device) + 0.5) * step - HALF_WIDTH
        self.x, self.y = axis[None, :].expand(texels, -1), axis[:, None].expand(-1, texels)
        self.soft = soft[:, None, None]
        self.step = step
        shape = (len(soft), texels, texels)
        self.body = torch.zeros(shape, device=soft.device)
        self.accent = torch.zeros(3, *shape, device=soft.device)
        self.outline = torch.full((texels, texels), 9.0, device=soft.device)

    def paper(
        self,
        d: Float[Tensor, "t t"],
        tone: float = 1.0,
        *,
        white: float = 0.0,
        rgb: RGB | None = None,
        raised: float = 1.0,
        detail: bool = False,
    ) -> None:
        """Lay a piece with distance field `d`: in the body colour times `tone`, mixed with `white`, or in `rgb`.

        `raised` scales bevel and shadow. A `detail` stays within the paper below and does not
        change the outline.
        """
        if not detail:
            self.outline = torch.minimum(self.outline, d)
        cover = self._cover(d)
        self._shade(1 - 0.34 * raised * self._shadow(d))
        lit = self._bevel(d) * raised
        tone_map = tone * (1.05 - 0.10 * self.y) * (1 - 0.30 * lit.clamp(max=0).abs())
        whiten = (white + 0.30 * lit.clamp(min=0)).clamp(0, 1)
        body = tone_map * (1 - whiten) if rgb is None else torch.zeros_like(tone_map)
        self.body = self.body * (1 - cover) + body * cover
        for c in range(3):
            paint = whiten if rgb is None else rgb[c] * tone_map * (1 - whiten) + whiten
            self.accent[c] = self.accent[c] * (1 - cover) + paint * cover

    def glow(self, d: Float[Tensor, "t t"], strength: float, width: float) -> None:
        """Lighten what is there where `d` is below 0, fading in over `width`."""
        w = strength * smooth(0.0, -width, d)
        self.body = self.body * (1 - w)
        self.accent = self.accent * (1 - w) + w

    def dim(self, d: Float[Tensor, "t t"], strength: float, width: float) -> None:
        """Darken what is there where `d` is below 0, fading in over `width`."""
        self._shade(1 - strength * smooth(0.0, -width, d))

    def drawing(self) -> Float[Tensor, "l 5 t t"]:
        """Channels: outline distance, body weight, accent red, green, blue."""
        levels = self.body.shape[0]
        outline = self.outline.expand(levels, -1, -1)
        return torch.stack([outline, self.body, *self.accent], dim=1)

    def _cover(self, d: Tensor) -> Tensor:
        return smooth(0.75, -0.75, d / self.soft)

    def _shadow(self, d: Tensor) -> Tensor:
        # The light comes from the upper left: the same field, shifted down and right.
        shift = round(0.055 / self.step)
        moved = torch.roll(d, (shift, shift), (0, 1))
        return smooth(0.10, -0.06, moved)

    def _bevel(self, d: Tensor) -> Tensor:
        shift = max(1, round(0.03 / self.step))
        slope = (d - torch.roll(d, (shift, shift), (0, 1))) / (shift * self.step * 1.4142)
        rim = smooth(-0.17, -0.01, d)
        return -slope.clamp(-1, 1) * rim

    def _shade(self, factor: Tensor) -> None:
        self.body = self.body * factor
        self.accent = self.accent * factor
