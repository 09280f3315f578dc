"""The eight scenes: each function paints four sheets, far to near, for a batch of clips of that scene."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinescribe.world import scenery as of
from kinescribe.world import shapes as s
from kinescribe.world.clip import SCENES
from kinescribe.world.sheet import Sheet, Stage


def sea(stage: Stage) -> list[Sheet]:
    """Open water in scalloped waves, an island at the horizon."""
    far, middle, near = Sheet(stage), Sheet(stage), Sheet(stage)
    of.clouds(stage, far, 100)
    island = s.ellipse(
        stage.x, stage.y, stage.random(120, -0.7, 0.7), 0.16, stage.random(121, 0.25, 0.45), 0.16
    )
    far.paper(island, stage.graded((0.42, 0.60, 0.52), 0.35, 1))
    far.paper(0.12 - stage.y + 0 * island, stage.graded((0.38, 0.74, 0.86), 0.25, 2))
    middle.paper(
        of.under(stage, of.waves(stage, 122, 0.32, 0.06, 0.42)), stage.graded((0.22, 0.62, 0.80), 0.08, 3)
    )
    middle.paper(
        of.under(stage, of.waves(stage, 123, 0.50, 0.07, 0.50)), stage.graded((0.15, 0.52, 0.74), 0.04, 4)
    )
    near.paper(
        of.under(stage, of.waves(stage, 124, 0.70, 0.08, 0.58)), stage.graded((0.10, 0.42, 0.66), 0.0, 5)
    )
    near.paper(
        of.under(stage, of.waves(stage, 125, 0.92, 0.08, 0.66)), stage.graded((0.07, 0.34, 0.58), 0.0, 6)
    )
    return [of.sky(stage, 0.12), far, middle, near]


def grass(stage: Stage) -> list[Sheet]:
    """Green hills with round trees."""
    far, middle, near = Sheet(stage), Sheet(stage), Sheet(stage)
    of.clouds(stage, far, 100)
    far.paper(of.under(stage, of.hills(stage, 130, 0.18, 0.10)), stage.graded((0.52, 0.74, 0.52), 0.30, 1))
    ground = of.hills(stage, 140, 0.38, 0.08)
    middle.paper(
        of.bushes(stage, ground, 150, 0.42, 0.12, 0.62), stage.graded((0.27, 0.56, 0.32), 0.10, 2), shadow=0.2
    )
    middle.paper(of.under(stage, ground), stage.graded((0.47, 0.73, 0.36), 0.06, 3))
    near.paper(
        of.under(stage, of.hills(stage, 160, 0.60, 0.05, 2.0)), stage.graded((0.38, 0.66, 0.27), 0.0, 4)
    )
    near.paper(
        of.under(stage, of.hills(stage, 170, 0.86, 0.03, 2.4)), stage.graded((0.29, 0.56, 0.22), 0.0, 5)
    )
    return [of.sky(stage, 0.2), far, middle, near]


def desert(stage: Stage) -> list[Sheet]:
    """Dunes with cacti before table mountains."""
    far, middle, near = Sheet(stage), Sheet(stage), Sheet(stage)
    mesa = s.box(
        stage.x, stage.y, stage.random(131, -0.8, -0.3), 0.30, stage.random(132, 0.24, 0.4), 0.36, r=0.05
    )
    butte = s.box(
        stage.x, stage.y, stage.random(133, 0.3, 0.8), 0.36, stage.random(134, 0.14, 0.26), 0.52, r=0.05
    )
    far.paper(torch.minimum(mesa, butte), stage.graded((0.80, 0.50, 0.38), 0.32, 1))
    far.paper(of.under(stage, of.hills(stage, 135, 0.24, 0.05)), stage.graded((0.93, 0.73, 0.48), 0.22, 2))
    middle.paper(
        of.under(stage, of.hills(stage, 140, 0.42, 0.09, 2.0)), stage.graded((0.94, 0.74, 0.44), 0.06, 3)
    )
    ground = of.hills(stage, 150, 0.62, 0.06, 1.8)
    plants = torch.minimum(of.cactus(stage, ground, 160, -0.78), of.cactus(stage, ground, 165, 0.80))
    near.paper(plants, stage.graded((0.34, 0.56, 0.34), 0.0, 4), shadow=0.22)
    near.paper(of.under(stage, ground), stage.graded((0.92, 0.69, 0.36), 0.0, 5))
    near.paper(
        of.under(stage, of.hills(stage, 170, 0.88, 0.04, 2.2)), stage.graded((0.86, 0.60, 0.30), 0.0, 6)
    )
    return [of.sky(stage, 0.25), far, middle, near]


def snow(stage: Stage) -> list[Sheet]:
    """White hills with dark firs."""
    far, middle, near = Sheet(stage), Sheet(stage), Sheet(stage)
    of.clouds(stage, far, 100)
    far.paper(of.under(stage, of.hills(stage, 130, 0.16, 0.11)), stage.graded((0.78, 0.87, 0.95), 0.25, 1))
    ground = of.hills(stage, 140, 0.40, 0.07)
    firs = of.pines(stage, ground + 0.04, 150, 0.27, 0.38, 0.6)
    middle.paper(firs, stage.graded((0.25, 0.47, 0.47), 0.12, 2), shadow=0.2, rim=0.55)
    middle.paper(of.under(stage, ground), stage.graded((0.88, 0.93, 0.98), 0.0, 3), rim=0.5)
    near.paper(
        of.under(stage, of.hills(stage, 160, 0.60, 0.05, 2.0)),
        stage.graded((0.93, 0.96, 0.99), 0.0, 4),
        rim=0.6,
    )
    near.paper(
        of.under(stage, of.hills(stage, 170, 0.87, 0.03, 2.4)),
        stage.graded((0.84, 0.90, 0.97), 0.0, 5),
        rim=0.6,
    )
    return [of.sky(stage, 0.2), far, middle, near]


def mountains(stage: Stage) -> list[Sheet]:
    """Two ranges, the far one with snow, above a dark wooded valley."""
    far, middle, near = Sheet(stage), Sheet(stage), Sheet(stage)
    top, summit, aside = of.peaks(stage, 130, 0.40, 0.95, 0.85)
    far.paper(of.under(stage, top, 1.0), stage.graded((0.54, 0.60, 0.76), 0.28, 1))
    zigzag = 0.06 * (2 * torch.remainder(aside * 4.5, 1.0) - 1).abs()
    cap = torch.maximum(top - stage.y, stage.y - summit - 0.22 + zigzag)
    far.paint(s.smooth(0.8, -0.8, cap / stage.soft), stage.graded((0.97, 0.98, 1.0), 0.10))
    _fold(stage, far, summit, aside)
    top, summit, aside = of.peaks(stage, 140, 0.55, 0.55, 0.62)
    middle.paper(of.under(stage, top, 1.0), stage.graded((0.36, 0.47, 0.62), 0.10, 2))
    _fold(stage, middle, summit, aside)
    ground = of.hills(stage, 150, 0.58, 0.06)
    near.paper(
        of.pines(stage, ground + 0.04, 160, 0.24, 0.30, 0.6),
        stage.graded((0.16, 0.38, 0.36), 0.04, 3),
        shadow=0.2,
    )
    near.paper(of.under(stage, ground), stage.graded((0.26, 0.50, 0.42), 0.0, 4))
    near.paper(
        of.under(stage, of.hills(stage, 170, 0.86, 0.04, 2.4)), stage.graded((0.20, 0.42, 0.36), 0.0, 5)
    )
    return [of.sky(stage, 0.25), far, middle, near]


def city(stage: Stage) -> list[Sheet]:
    """Two rows of houses with windows above a street."""
    far, middle, near = Sheet(stage), Sheet(stage), Sheet(stage)
    of.clouds(stage, far, 100)
    back, _ = of.skyline(stage, 130, 0.6, 0.95, 0.30)
    far.paper(back, stage.graded((0.62, 0.68, 0.80), 0.35, 1), shadow=0.2)
    front, light = of.skyline(stage, 140, 0.7, 0.92, 0.44)
    middle.paper(front, stage.graded((0.45, 0.47, 0.62), 0.08, 2))
    pane = stage.by_hour((0.80, 0.90, 0.97), (1.0, 0.84, 0.52), (1.0, 0.86, 0.50))
    middle.paint(light * (0.62 + 0.3 * stage.night + 0.2 * stage.sunset), pane)
    near.paper(0.56 - stage.y + 0 * light, stage.graded((0.74, 0.72, 0.72), 0.0, 3))
    near.paper(0.68 - stage.y + 0 * light, stage.graded((0.40, 0.41, 0.47), 0.0, 4))
    place = torch.remainder(stage.x / 0.62 + stage.random(150), 1.0) - 0.5
    dash = s.box(place * 0.62, stage.y, 0.0, 0.90, 0.15, 0.022, r=0.02)
    near.paint(0.8 * s.smooth(0.8, -0.8, dash / stage.soft), stage.graded((0.96, 0.93, 0.82)))
    return [of.sky(stage, 0.3), far, middle, near]


def underwater(stage: Stage) -> list[Sheet]:
    """The sea bed: light from above, rocks, weeds, sand, bubbles."""
    back, far, middle, near = (Sheet(stage) for _ in range(4))
    top = stage.by_hour((0.50, 0.90, 0.92), (0.98, 0.66, 0.58), (0.16, 0.36, 0.58))
    deep = stage.by_hour((0.08, 0.46, 0.68), (0.20, 0.28, 0.48), (0.04, 0.12, 0.30))
    low = s.smooth(-1.2, 0.7, stage.y)[:, None]
    back.fill(top * (1 - low) + deep * low)
    slant = stage.x - 0.35 * stage.y + stage.random(120, -0.5, 0.5)
    beams = (slant * 4.0).sin().clamp(min=0) ** 2 * s.smooth(0.5, -1.1, stage.y)
    back.paint(0.26 * beams, stage.by_hour((0.9, 1.0, 1.0), (1.0, 0.9, 0.7), (0.5, 0.7, 0.9)))
    rocks = of.under(stage, of.hills(stage, 130, 0.34, 0.20, 3.2), 0.5)
    far.paper(rocks, 0.72 * deep + 0.28 * top, shadow=0.18)
    bed = of.under(stage, of.hills(stage, 140, 0.56, 0.10, 2.8), 0.3)
    middle.paper(
        of.weeds(stage, 150, 0.34, -0.12, 0.8, 0.6, thick=0.050),
        _sunk(stage, (0.20, 0.62, 0.50), deep, 0.30),
        shadow=0.18,
    )
    middle.paper(bed, _sunk(stage, (0.30, 0.58, 0.62), deep, 0.40))
    near.paper(
        of.weeds(stage, 160, 0.50, 0.24, 0.9, 0.6, thick=0.062),
        _sunk(stage, (0.88, 0.42, 0.46), deep, 0.22),
        shadow=0.2,
    )
    near.paper(
        of.under(stage, of.hills(stage, 165, 0.72, 0.04)), _sunk(stage, (0.94, 0.84, 0.62), deep, 0.25)
    )
    near.paper(
        of.under(stage, of.hills(stage, 170, 0.90, 0.03, 2.2)), _sunk(stage, (0.86, 0.72, 0.50), deep, 0.22)
    )
    of.bubbles(stage, back, 180)
    return [back, far, middle, near]


def space(stage: Stage) -> list[Sheet]:
    """Stars and paper nebulae, a ringed planet, the curved edge of a world below."""
    back, far, middle, near = (Sheet(stage) for _ in range(4))
    top = stage.by_hour((0.20, 0.17, 0.46), (0.30, 0.12, 0.34), (0.08, 0.08, 0.20))
    low = stage.by_hour((0.40, 0.36, 0.74), (0.92, 0.44, 0.48), (0.14, 0.13, 0.32))
    fade = s.smooth(-0.8, 1.0, stage.y)[:, None]
    back.fill(top * (1 - fade) + low * fade)
    for k in range(2):
        band = of.hills(stage, 130 + 10 * k, -0.30 + 0.45 * k, 0.20, 2.2)
        mist = stage.by_hour((0.46, 0.34, 0.76), (0.80, 0.30, 0.50), (0.18, 0.14, 0.36))
        back.paint(0.30 * s.smooth(0.02, -0.02, band - stage.y) * s.smooth(0.55, 0.0, stage.y - band), mist)
    of.stars(stage, back, 0.55 + 0.45 * stage.night, 150)
    px, py = stage.random(160, -0.75, 0.75), stage.random(161, -0.75, -0.35)
    planet = s.circle(stage.x, stage.y, px, py, stage.random(162, 0.15, 0.21))
    u, v = s.turned(stage.x - px, stage.y - py, 0.0, 0.0, -0.35)
    ring = (s.ellipse(u, v, 0.0, 0.0, 0.36, 0.11)).abs() - 0.02
    tint = stage.by_hour((0.95, 0.76, 0.52), (0.99, 0.78, 0.55), (0.62, 0.60, 0.80))
    far.paper(planet, tint, rim=0.35)
    far.paper(torch.maximum(ring, torch.where(v < 0, -planet, ring)), tint * 0.8 + 0.16, shadow=0.15)
    of.stars(stage, far, 0 * stage.night, 165)
    moon = s.circle(stage.x, stage.y, -px + stage.random(171, -0.1, 0.1), stage.random(172, 0.0, 0.22), 0.09)
    middle.paper(moon, stage.by_hour((0.86, 0.86, 0.92), (0.98, 0.80, 0.76), (0.56, 0.58, 0.72)))
    rim = s.circle(stage.x, stage.y, stage.random(180, -0.3, 0.3), 2.62, 2.05)
    glow = stage.by_hour((0.55, 0.82, 0.98), (1.0, 0.62, 0.40), (0.30, 0.42, 0.80))
    middle.paper(rim - 0.10, glow * 0.75 + low * 0.25, shadow=0.1)
    near.paper(rim, stage.by_hour((0.24, 0.50, 0.78), (0.62, 0.28, 0.44), (0.13, 0.20, 0.44)))
    near.paper(rim + 0.24, stage.by_hour((0.20, 0.42, 0.70), (0.50, 0.22, 0.40), (0.10, 0.15, 0.36)))
    return [back, far, middle, near]


PAINTERS: tuple[Callable[[Stage], list[Sheet]], ...] = (
    sea, grass, desert, snow, mountains, city, underwater, space,
)  # fmt: skip


SWELL = {SCENES.index("sea"): (0.0, 0.0, 0.030, 0.045)}
"""How far a scene's sheets swing to the sides by themselves, far to near, in half frame widths."""


def paint(
    scene: int, seed: Int[Tensor, " n"], time: Int[Tensor, " n"], size: int
) -> list[Float[Tensor, "n 4 t t"]]:
    """The sheets (far to near, premultiplied) of `scene` for clips with these seeds and hours."""
    return [sheet.picture() for sheet in PAINTERS[scene](Stage(seed, time, size))]


def _fold(stage: Stage, sheet: Sheet, summit: Tensor, aside: Tensor) -> None:
    """Shade the right flank of every peak, as if the paper were folded along a slanting ridge."""
    flank = 0.22 * (stage.y - summit) - aside
    black = torch.zeros(1, 3, 1, 1, device=stage.x.device)
    sheet.paint(0.13 * s.smooth(0.02, -0.02, flank), black)


def _sunk(stage: Stage, rgb: tuple[float, float, float], deep: Tensor, share: float) -> Tensor:
    """A daylight colour seen through water."""
    return stage.graded(rgb, 0.0, 1) * (1 - share) + deep * share
