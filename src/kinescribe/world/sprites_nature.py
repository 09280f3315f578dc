"""Subjects that grow, shine or breathe: each function lays its papers on a board, facing right."""

import math

import torch

from kinescribe.world import shapes as s
from kinescribe.world.paper import Board

INK = (0.13, 0.12, 0.17)
CREAM = (0.99, 0.96, 0.88)
BEAK = (0.98, 0.62, 0.14)
WOOD = (0.50, 0.33, 0.21)
LEAF = (0.36, 0.56, 0.30)
BLUSH = (0.96, 0.55, 0.52)


def fish(b: Board) -> None:
    """A round fish with a forked tail, two fins and two pale bands."""
    x, y = b.x, b.y
    tail = s.polygon(x, y, [(-0.48, 0.0), (-0.97, -0.52), (-0.84, 0.0), (-0.97, 0.52)], 0.06)
    b.paper(tail, 0.74)
    b.paper(s.polygon(x, y, [(-0.32, -0.42), (0.02, -0.82), (0.36, -0.42)], 0.08), 0.74)
    body = s.both(s.circle(x, y, 0.14, 0.48, 1.04), s.circle(x, y, 0.14, -0.48, 1.04))
    body = s.blend(body, s.ellipse(x, y, 0.16, 0.0, 0.66, 0.52), 0.1)
    b.paper(body)
    for cx in (-0.14, -0.46):
        band = s.both(body + 0.03, (torch.hypot(x - cx + 0.75, y) - 0.80).abs() - 0.055)
        b.paper(band, white=0.55, raised=0.35, detail=True)
    b.paper(s.polygon(x, y, [(0.10, 0.12), (-0.26, 0.34), (-0.05, 0.02)], 0.07), 0.78, detail=True)
    b.paper(s.circle(x, y, 0.50, -0.12, 0.155), rgb=CREAM, raised=0.5, detail=True)
    b.paper(s.circle(x, y, 0.54, -0.11, 0.085), rgb=INK, raised=0.0, detail=True)


def bird(b: Board) -> None:
    """A flying bird from the side: one raised wing, a fan tail, an orange beak."""
    x, y = b.x, b.y
    b.paper(s.polygon(x, y, [(0.02, -0.02), (0.02, -0.62), (-0.20, -0.92), (-0.30, -0.10)], 0.06), 0.66)
    b.paper(s.polygon(x, y, [(-0.46, 0.18), (-1.00, -0.06), (-0.93, 0.16), (-1.02, 0.36)], 0.04), 0.72)
    b.paper(s.polygon(x, y, [(0.80, -0.20), (1.06, -0.08), (0.80, 0.04)], 0.02), rgb=BEAK)
    body = s.ellipse(*s.turned(x, y, -0.02, 0.20, -0.25), 0.0, 0.0, 0.64, 0.36)
    body = s.blend(body, s.circle(x, y, 0.58, -0.10, 0.31), 0.25)
    b.paper(body)
    belly = s.both(body + 0.05, s.ellipse(x, y, 0.12, 0.52, 0.5, 0.28))
    b.paper(belly, white=0.55, raised=0.2, detail=True)
    wing = s.polygon(
        x, y, [(0.22, 0.10), (-0.10, -0.58), (-0.62, -0.86), (-0.56, -0.30), (-0.30, 0.16)], 0.07
    )
    b.paper(wing, 0.84)
    b.paper(s.circle(x, y, 0.64, -0.16, 0.10), rgb=CREAM, raised=0.4, detail=True)
    b.paper(s.circle(x, y, 0.665, -0.155, 0.062), rgb=INK, raised=0.0, detail=True)


def star(b: Board) -> None:
    """A five-pointed star, folded: every second facet lies in shade."""
    x, y = b.x, b.y + 0.04
    body = s.polygon(x, y, s.star_points(5, 0.98, 0.44), 0.07)
    b.paper(body)
    angle = torch.atan2(x, -y)
    facet = torch.remainder(angle, 2 * math.pi / 5) - math.pi / 5
    fold = facet * torch.hypot(x, y)
    b.dim(torch.maximum(-fold, body + 0.06), 0.20, 0.03)
    b.paper(s.polygon(x, y, s.star_points(5, 0.46, 0.21), 0.03), white=0.30, raised=0.5, detail=True)


def heart(b: Board) -> None:
    """A heart with a smaller, paler heart on it and a soft highlight."""
    x, y = b.x, b.y
    body = s.heart(x / 1.52, (y - 0.86) / 1.52) * 1.52 - 0.06
    b.paper(body)
    b.dim(torch.maximum(-(x - 0.05) - 0.25 * y, body + 0.05), 0.10, 0.5)
    inner = s.heart(x / 0.92, (y - 0.46) / 0.92) * 0.92 - 0.04
    b.paper(inner, white=0.22, raised=0.7, detail=True)
    b.glow(s.ellipse(*s.turned(x, y, -0.50, -0.46, -0.6), 0.0, 0.0, 0.26, 0.14), 0.5, 0.14)


def tree(b: Board) -> None:
    """A tree: brown trunk, a crown of five round papers."""
    x, y = b.x, b.y
    trunk = s.polygon(x, y, [(-0.11, 0.10), (0.11, 0.10), (0.19, 0.96), (-0.19, 0.96)], 0.04)
    b.paper(trunk, rgb=WOOD)
    b.paper(s.segment(x, y, (0.06, 0.62), (0.36, 0.36), 0.055), rgb=WOOD, raised=0.6)
    low = s.union(s.circle(x, y, -0.50, 0.08, 0.40), s.circle(x, y, 0.50, 0.08, 0.40))
    b.paper(s.blend(low, s.circle(x, y, 0.0, 0.02, 0.46), 0.08), 0.76)
    mid = s.union(s.circle(x, y, -0.36, -0.32, 0.38), s.circle(x, y, 0.38, -0.30, 0.38))
    b.paper(s.blend(mid, s.circle(x, y, 0.0, -0.30, 0.42), 0.08), 0.92)
    b.paper(s.circle(x, y, -0.02, -0.62, 0.38), 1.0, white=0.14)


def cat(b: Board) -> None:
    """A sitting cat seen from the front, its tail curled to the right."""
    x, y = b.x, b.y
    tail = [(0.30, 0.82), (0.66, 0.84), (0.86, 0.64), (0.86, 0.36), (0.72, 0.20)]
    b.paper(s.polyline(x, y, tail, 0.115), 0.74)
    body = s.blend(s.ellipse(x, y, 0.0, 0.56, 0.50, 0.46), s.ellipse(x, y, 0.0, 0.16, 0.30, 0.36), 0.25)
    b.paper(s.both(body, y - 0.96), 0.88)
    b.paper(s.ellipse(x, y, 0.0, 0.56, 0.22, 0.28), white=0.50, raised=0.3, detail=True)
    ears = [s.polygon(x, y, [(e * 0.50, -0.42), (e * 0.52, -0.96), (e * 0.12, -0.66)], 0.05) for e in (-1, 1)]
    head = s.ellipse(x, y, 0.0, -0.32, 0.58, 0.45)
    b.paper(s.union(head, *ears))
    for e in (-1, 1):
        inner = s.polygon(x, y, [(e * 0.43, -0.60), (e * 0.44, -0.80), (e * 0.27, -0.68)], 0.03)
        b.paper(inner, rgb=BLUSH, raised=0.2, detail=True)
        b.paper(s.ellipse(x, y, e * 0.24, -0.34, 0.125, 0.15), rgb=CREAM, raised=0.3, detail=True)
        b.paper(s.ellipse(x, y, e * 0.225, -0.33, 0.06, 0.12), rgb=INK, raised=0.0, detail=True)
    b.paper(s.ellipse(x, y, 0.0, -0.13, 0.20, 0.115), white=0.60, raised=0.2, detail=True)
    nose = s.polygon(x, y, [(-0.05, -0.19), (0.05, -0.19), (0.0, -0.12)], 0.03)
    b.paper(nose, rgb=BLUSH, raised=0.0, detail=True)


def moon(b: Board) -> None:
    """A crescent with three shallow craters."""
    x, y = b.x - 0.10, b.y
    body = s.crescent(*s.turned(x, y, 0.0, 0.0, -0.33), 0.95, 0.72, 0.49) - 0.03
    b.paper(body)
    b.glow(torch.maximum(s.circle(x, y, -0.25, -0.2, 0.72).abs() - 0.05, body + 0.1), 0.18, 0.1)
    for cx, cy, r in ((-0.58, 0.22, 0.14), (-0.34, 0.60, 0.10), (-0.60, -0.30, 0.09)):
        b.paper(s.circle(x, y, cx, cy, r), 0.78, raised=-0.6, detail=True)


def butterfly(b: Board) -> None:
    """A butterfly from above: four wings with pale spots, a dark body, two feelers."""
    x, y = b.x.abs(), b.y
    feelers = s.polyline(x, y, [(0.04, -0.44), (0.14, -0.72), (0.30, -0.90)], 0.035)
    b.paper(s.union(feelers, s.circle(x, y, 0.30, -0.90, 0.065)), rgb=INK, raised=0.3)
    b.paper(s.ellipse(*s.turned(x, y, 0.44, 0.48, 0.85), 0.0, 0.0, 0.50, 0.36), 0.76)
    upper = s.polygon(x, y, [(0.10, -0.05), (0.34, -0.46), (0.74, -0.62), (0.80, -0.30), (0.55, 0.08)], 0.20)
    b.paper(upper)
    b.paper(
        s.ellipse(*s.turned(x, y, 0.60, -0.26, -0.5), 0.0, 0.0, 0.22, 0.15),
        white=0.62,
        raised=0.3,
        detail=True,
    )
    b.paper(s.circle(x, y, 0.52, 0.50, 0.12), white=0.62, raised=0.3, detail=True)
    b.paper(s.segment(b.x, y, (0.0, -0.36), (0.0, 0.56), 0.105), rgb=INK)
    b.paper(s.circle(b.x, y, 0.0, -0.44, 0.14), rgb=INK, raised=0.6)


def flower(b: Board) -> None:
    """A flower with six petals, a yellow heart, a stem and two leaves."""
    x, y = b.x, b.y
    b.paper(s.segment(x, y, (0.0, 0.0), (0.0, 0.98), 0.06), rgb=LEAF, raised=0.6)
    for side in (-1, 1):
        leaf = s.ellipse(*s.turned(x, y, side * 0.27, 0.74, -side * 0.55), 0.0, 0.0, 0.29, 0.12)
        b.paper(leaf, rgb=LEAF)
    cy, n = -0.30, 6
    for layer, (reach, long, wide, tone) in enumerate(((0.40, 0.32, 0.27, 0.80), (0.34, 0.26, 0.19, 1.0))):
        petals = []
        for i in range(n):
            a = 2 * math.pi * (i + 0.5 * layer) / n
            u, v = s.turned(x, y, reach * math.cos(a), cy + reach * math.sin(a), a)
            petals.append(s.ellipse(u, v, 0.0, 0.0, long, wide))
        b.paper(s.union(*petals), tone)
    b.paper(s.circle(x, y, 0.0, cy, 0.20), rgb=(0.98, 0.80, 0.26))
