"""Things a scene is made of: hills, waves, peaks, clouds, pines, houses, weeds. All are distance fields.

Every function takes the `Stage` (coordinates and seeds) and a `salt`, so that each use varies by itself.
"""

import math

import torch
from torch import Tensor

from kinescribe.world import palette
from kinescribe.world import shapes as s
from kinescribe.world.sheet import Sheet, Stage


def hills(stage: Stage, salt: int, level: float, swell: float, wave: float = 2.6) -> Tensor:
    """The height (y of the top) of rolling ground about `level`, shape (n, 1, t)."""
    x = stage.x
    a = (x * wave * stage.random(salt, 0.8, 1.2) + stage.random(salt + 1, 0.0, 6.3)).sin()
    b = (x * wave * 1.9 * stage.random(salt + 2, 0.8, 1.2) + stage.random(salt + 3, 0.0, 6.3)).sin()
    return level + swell * (0.7 * a + 0.3 * b) + stage.random(salt + 4, -0.03, 0.03)


def waves(stage: Stage, salt: int, level: float, crest: float, length: float) -> Tensor:
    """The height of scalloped water: round troughs, pointed crests, like cut paper."""
    phase = stage.x * (math.pi / length) + stage.random(salt, 0.0, 3.14)
    return level - crest * (1 - phase.sin().abs()) ** 1.0


def peaks(stage: Stage, salt: int, level: float, rise: float, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """A jagged range, one triangle per cell of `width`: its height, its peaks' heights, the way to the peak."""
    top = torch.full_like(stage.x, 9.0).expand(stage.count, 1, -1)
    summit, aside = top, top
    place = stage.x / width + stage.random(salt)
    cell = place.floor()
    for step in (-1, 0, 1):
        centre = cell + step + 0.5 + 0.3 * (stage.hashed(cell + step, salt + 1) - 0.5)
        tip = level - rise * (0.6 + 0.4 * stage.hashed(cell + step, salt + 2))
        slope = tip + (place - centre).abs() * width * 1.05
        ahead = slope < top
        top = torch.where(ahead, slope, top)
        summit, aside = torch.where(ahead, tip, summit), torch.where(ahead, (place - centre) * width, aside)
    return top, summit, aside


def under(stage: Stage, top: Tensor, steepness: float = 0.25) -> Tensor:
    """The distance field of all that lies below the height `top`."""
    return (top - stage.y) / math.sqrt(1 + steepness**2)


def sky(stage: Stage, horizon: float) -> Sheet:
    """The farthest sheet: graded air, sun or moon with paper halos, stars at night."""
    sheet = Sheet(stage)
    low = s.smooth(-1.1, horizon, stage.y)[:, None]
    top = palette.table(palette.SKY_TOP, stage.time) * (0.94 + 0.12 * stage.random(20)[:, None])
    sheet.fill(top * (1 - low) + stage.haze * low)
    stars(stage, sheet, stage.night, 22)
    x, high = stage.random(24, -0.7, 0.7), stage.random(25, -0.78, -0.50)
    y = torch.where(stage.sunset > 0, stage.random(25, horizon - 0.30, horizon - 0.12), high)
    disc(stage, sheet, x, y)
    return sheet


def disc(stage: Stage, sheet: Sheet, x: Tensor, y: Tensor) -> None:
    """Sun or moon at (x, y), with two halos of thin paper."""
    colour = palette.table(palette.SUN, stage.time)
    d = torch.hypot(stage.x - x, stage.y - y)
    radius = 0.17 + 0.05 * stage.sunset - 0.02 * stage.night
    strength = 0.16 + 0.06 * stage.sunset - 0.09 * stage.night
    for ring in (3.1, 2.0):
        sheet.paint(strength * s.smooth(0.02, -0.02, d - radius * ring), colour)
    sheet.paint(0.35 * torch.exp(-((d / (2.2 * radius)) ** 2)), colour)
    sheet.paper(d - radius, colour, shadow=0.0, fall=0.0)
    crater = torch.hypot(stage.x - x + 0.05, stage.y - y - 0.04) - 0.045
    sheet.paint(0.14 * stage.night * s.smooth(0.02, -0.02, crater), colour * 0.6)


def stars(stage: Stage, sheet: Sheet, strength: Tensor, salt: int, cell: float = 0.33) -> None:
    """A loose field of soft round stars, at most one per square of side `cell`."""
    u, v = stage.x / cell, stage.y / cell + stage.random(salt)
    i, j = u.floor(), v.floor()
    key = i + 64 * j
    cx = 0.5 + 0.56 * (stage.hashed(key, salt + 1) - 0.5)
    cy = 0.5 + 0.56 * (stage.hashed(key, salt + 2) - 0.5)
    size = 0.020 + 0.014 * stage.hashed(key, salt + 3)
    there = (stage.hashed(key, salt + 4) < 0.45).float()
    d = torch.hypot(u - i - cx, v - j - cy) * cell
    cover = strength * there * s.smooth(1.35, 0.45, d / size)
    sheet.paint(0.85 * cover, stage.by_hour((1.0, 1.0, 1.0), (1.0, 0.95, 0.9), (1.0, 0.98, 0.9)))


def cloud(stage: Stage, salt: int, low: float, high: float, side: float) -> Tensor:
    """One flat-bottomed cloud about x = `side`, its base between `low` and `high`."""
    cx, base = side + stage.random(salt, -0.25, 0.25), stage.random(salt + 1, low, high)
    k = stage.random(salt + 2, 0.85, 1.25)
    d = s.circle(stage.x, stage.y, cx, base - 0.08 * k, 0.17 * k)
    for offset, up, r in ((-0.22, 0.0, 0.12), (0.21, 0.01, 0.13), (0.40, -0.03, 0.08), (-0.38, -0.03, 0.07)):
        d = torch.minimum(d, s.circle(stage.x, stage.y, cx + offset * k, base - up - 0.04 * k, r * k))
    return torch.maximum(d, stage.y - base - 0.02)


def clouds(stage: Stage, sheet: Sheet, salt: int) -> None:
    """Two paper clouds, one to each side."""
    colour = stage.by_hour((1.0, 1.0, 1.0), (1.0, 0.80, 0.72), (0.34, 0.41, 0.62))
    for k, side in enumerate((-0.55, 0.55)):
        sheet.paper(cloud(stage, salt + 5 * k, -0.62, -0.22, side), colour, shadow=0.16, rim=0.3, fall=0.3)


def pines(stage: Stage, ground: Tensor, salt: int, pitch: float, tall: float, share: float) -> Tensor:
    """Conifers standing on the height `ground`, at most one per cell of width `pitch`."""
    place = stage.x / pitch + stage.random(salt)
    cell = place.floor()
    cx = 0.5 + 0.4 * (stage.hashed(cell, salt + 1) - 0.5)
    h = tall * (0.7 + 0.5 * stage.hashed(cell, salt + 2))
    gone = torch.where(stage.hashed(cell, salt + 3) < share, 0.0, 9.0)
    dx = ((place - cell - cx) * pitch).abs()
    rise = stage.y - ground + h  # 0 at the tip, h at the foot
    d = torch.maximum((dx - 0.40 * rise) * 0.93, rise - 0.62 * h)
    lower = (dx - 0.36 * (rise - 0.28 * h)) * 0.94
    d = torch.minimum(d, torch.maximum(lower, rise - 1.05 * h))
    return torch.maximum(d, -rise) + gone


def bushes(stage: Stage, ground: Tensor, salt: int, pitch: float, r: float, share: float) -> Tensor:
    """Round trees on short stems' height above `ground`, at most one per cell of width `pitch`."""
    place = stage.x / pitch + stage.random(salt)
    cell = place.floor()
    cx = 0.5 + 0.3 * (stage.hashed(cell, salt + 1) - 0.5)
    k = r * (0.75 + 0.4 * stage.hashed(cell, salt + 2))
    gone = torch.where(stage.hashed(cell, salt + 3) < share, 0.0, 9.0)
    dx, dy = (place - cell - cx) * pitch, stage.y - ground + 0.9 * k
    crown = s.blend(torch.hypot(dx, dy) - k, torch.hypot(dx, dy - 0.9 * k) - 0.5 * k, 0.1)
    return crown + gone


def skyline(stage: Stage, salt: int, level: float, rise: float, width: float) -> tuple[Tensor, Tensor]:
    """A row of flat-roofed houses standing from `level` up; also the light of their windows, 0 to 1."""
    place = stage.x / width + stage.random(salt)
    cell = place.floor()
    d = torch.full((1, 1, 1), 9.0, device=stage.x.device)
    for step in (-1, 0, 1):
        top = level - rise * (0.35 + 0.65 * stage.hashed(cell + step, salt + 1))
        dx = (place - cell - step - 0.5).abs() - 0.46
        d = torch.minimum(d, torch.maximum(dx * width, top - stage.y))
    top = level - rise * (0.35 + 0.65 * stage.hashed(cell, salt + 1))
    columns, pitch = 3, width * 0.92 / 3.4
    u = ((place - cell - 0.5) * width) / pitch + columns / 2
    v = (stage.y - top) / (pitch * 1.25) - 0.45
    i, j = u.floor(), v.floor()
    inside = ((i >= 0) & (i < columns) & (j >= 0)).float()
    lit = (stage.hashed(i + 4 * j + 64 * cell, salt + 2) < 0.62).float() * inside
    pane = s.box(u - i, v - j, 0.5, 0.5, 0.30, 0.30) * pitch
    return d, lit * s.smooth(0.8, -0.8, pane / stage.soft)


def cactus(stage: Stage, ground: Tensor, salt: int, side: float) -> Tensor:
    """A cactus with two arms about x = `side`, its foot below the height `ground`."""
    cx, k = side + stage.random(salt, -0.14, 0.14), stage.random(salt + 1, 0.8, 1.15)
    flip = torch.where(stage.random(salt + 2) < 0.5, -1.0, 1.0)
    x, y = (stage.x - cx) * flip / k, (stage.y - ground) / k
    d = s.box(x, y, 0.0, -0.15, 0.055, 0.24, r=0.05)
    for sx, top, low in ((-1, -0.27, -0.12), (1, -0.33, -0.18)):
        d = torch.minimum(d, s.segment(sx * x, y, (0.0, low), (0.13, low), 0.04))
        d = torch.minimum(d, s.segment(sx * x, y, (0.13, low), (0.13, top), 0.04))
    return d * k


def weeds(
    stage: Stage, salt: int, pitch: float, top: float, foot: float, share: float, *, thick: float
) -> Tensor:
    """Waving ribbons of water plants growing from `foot` up to about `top`."""
    place = stage.x / pitch + stage.random(salt)
    bend = 0.16 * (stage.y * 5.0 + stage.random(salt + 1, 0.0, 6.3)).sin()
    cell = (place + bend).floor()
    dx = ((place + bend - cell - 0.5) * pitch).abs()
    tip = top + 0.28 * stage.hashed(cell, salt + 2)
    gone = torch.where(stage.hashed(cell, salt + 3) < share, 0.0, 9.0)
    width = thick * (0.45 + 0.55 * s.smooth(0.0, 1.0, (stage.y - tip) / (foot - tip)))
    above = (tip + width - stage.y).clamp(min=0)
    return torch.hypot(dx, above) - width + gone


def bubbles(stage: Stage, sheet: Sheet, salt: int) -> None:
    """A few soft round bubbles."""
    cell = 0.42
    u, v = stage.x / cell, stage.y / cell + stage.random(salt)
    key = u.floor() + 64 * v.floor()
    cx = 0.5 + 0.4 * (stage.hashed(key, salt + 1) - 0.5)
    cy = 0.5 + 0.4 * (stage.hashed(key, salt + 2) - 0.5)
    r = 0.030 + 0.025 * stage.hashed(key, salt + 3)
    there = (stage.hashed(key, salt + 4) < 0.34).float()
    d = torch.hypot(u - u.floor() - cx, v - v.floor() - cy) * cell - r
    white = torch.ones(1, 3, 1, 1, device=stage.x.device)
    sheet.paint(
        there * 0.34 * s.smooth(0.016, -0.016, d) * (1 - 0.55 * s.smooth(0.0, -0.03, d + 0.012)), white
    )
