"""One layer of a scene in the making: papers on a transparent sheet, kept premultiplied, a batch at a time."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinescribe.world import palette
from kinescribe.world.palette import RGB, uniform
from kinescribe.world.shapes import smooth

HALF_WIDTH = 1.25
"""Half the width of a sheet in half frame widths: the camera sees past the frame's edges."""

Map = Float[Tensor, "#n #t #t"]


class Stage:
    """What painting one scene for `n` clips needs: coordinates, random numbers, the hour's light."""

    def __init__(self, seed: Int[Tensor, " n"], time: Int[Tensor, " n"], size: int) -> None:
        self.texels = round(size * HALF_WIDTH * 1.25)
        self.soft = 2.0 / size
        self.shift = (round(self.texels * 0.010), round(self.texels * 0.015))
        axis = ((torch.arange(self.texels, device=seed.device) + 0.5) / self.texels * 2 - 1) * HALF_WIDTH
        self.x, self.y = axis[None, None, :], axis[None, :, None]
        self.seed, self.time = seed, time
        self.count = len(seed)
        self.numbers = palette.uniforms(seed, 256)
        self.night = (time == 2).float()[:, None, None]
        self.sunset = (time == 1).float()[:, None, None]
        self.rim = palette.table(palette.RIM, time)
        self.haze = palette.table(palette.SKY_LOW, time)

    def random(self, salt: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n 1 1"]:
        """One number per clip in [low, high)."""
        return (low + (high - low) * self.numbers[:, salt])[:, None, None]

    def hashed(self, cell: Tensor, salt: int) -> Tensor:
        """A number in [0, 1) per clip and integer-valued `cell`."""
        key = self.seed[:, None, None] + (cell.long() + 512) * 7919
        return uniform(key, salt)

    def graded(self, rgb: RGB, haze: float = 0.0, salt: int = 0) -> Float[Tensor, "n 3 1 1"]:
        """A daylight colour under the hour's light, mixed with `haze` of the low sky, a little varied by `salt`."""
        base = palette.constant(rgb, self.seed.device)[None, :, None, None]
        drift = self.numbers[:, 200 + 3 * salt : 203 + 3 * salt] - 0.5
        base = base + 0.05 * drift[:, :, None, None] * min(salt, 1)
        light = palette.table(palette.GROUND_LIGHT, self.time)
        wash = base.mean(1, keepdim=True) * palette.table(palette.GROUND_WASH, self.time)
        share = palette.constant(palette.WASH, self.seed.device)[self.time][:, None, None, None]
        lit = base * light * (1 - share) + wash * share + palette.table(palette.GROUND_GLOW, self.time)
        return (lit * (1 - haze) + self.haze * haze).clamp(0, 1)

    def by_hour(self, day: RGB, sunset: RGB, night: RGB) -> Float[Tensor, "n 3 1 1"]:
        """A colour that is told for each hour."""
        return palette.table((day, sunset, night), self.time)


class Sheet:
    """A premultiplied picture `n 4 t t` that papers, paint and light are laid on."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        t = stage.texels
        self.rgb = torch.zeros(stage.count, 3, t, t, device=stage.seed.device)
        self.alpha = torch.zeros(stage.count, 1, t, t, device=stage.seed.device)

    def paper(
        self,
        d: Map,
        colour: Float[Tensor, "#n 3 #t #t"],
        *,
        shadow: float = 0.30,
        rim: float = 0.22,
        fall: float = 0.16,
    ) -> None:
        """Lay a paper with distance field `d`: a soft shadow around it, a lit rim, darker far from its edge."""
        d = d[:, None]
        self._over(colour=None, cover=shadow * smooth(0.10, -0.03, torch.roll(d, self.stage.shift, (-2, -1))))
        edge = rim * smooth(-0.05, -0.005, d)
        shade = 1 - fall * smooth(0.0, -0.6, d)
        self._over(
            colour * shade * (1 - edge) + self.stage.rim * edge, smooth(0.8, -0.8, d / self.stage.soft)
        )

    def paint(self, cover: Map, colour: Float[Tensor, "#n 3 #t #t"]) -> None:
        """Colour what is there where `cover` says so (0 to 1), without any edge; nothing outside the papers."""
        cover = cover[:, None]
        self.rgb = self.rgb * (1 - cover) + colour * cover * self.alpha

    def fill(self, colour: Float[Tensor, "#n 3 #t #t"]) -> None:
        """Cover the whole sheet."""
        self.rgb = colour.expand_as(self.rgb).clone()
        self.alpha = torch.ones_like(self.alpha)

    def picture(self) -> Float[Tensor, "n 4 t t"]:
        """The finished layer, red, green, blue times alpha, then alpha."""
        return torch.cat([self.rgb, self.alpha], 1)

    def _over(self, colour: Tensor | None, cover: Tensor) -> None:
        self.rgb = self.rgb * (1 - cover)
        if colour is not None:
            self.rgb = self.rgb + colour * cover
        self.alpha = self.alpha + (1 - self.alpha) * cover
