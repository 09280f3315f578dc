"""Subjects made by hand: each function lays its papers on a board, facing right."""

import math

import torch

from kinescribe.world import shapes as s
from kinescribe.world.paper import Board
from kinescribe.world.sprites_nature import CREAM, INK, WOOD

GLASS = (0.76, 0.90, 0.97)
STEEL = (0.62, 0.64, 0.70)
LAMP = (1.0, 0.86, 0.42)
FLAME = (0.99, 0.56, 0.14)


def balloon(b: Board) -> None:
    """A toy balloon: egg-shaped, a knot, a curling string, a highlight."""
    x, y = b.x, b.y
    string = [(0.0, 0.44), (0.06, 0.58), (-0.05, 0.76), (0.05, 0.98)]
    b.paper(s.polyline(x, y, string, 0.04), rgb=CREAM, raised=0.5)
    b.paper(s.polygon(x, y, [(0.0, 0.30), (0.13, 0.49), (-0.13, 0.49)], 0.04), 0.78)
    egg = s.ellipse(x * (1 + 0.16 * (y + 0.3)), y, 0.0, -0.30, 0.66, 0.70)
    b.paper(egg)
    b.dim(torch.maximum(-s.circle(x, y, -0.22, -0.45, 0.66), egg + 0.03), 0.20, 0.35)
    b.glow(s.ellipse(*s.turned(x, y, -0.27, -0.58, -0.6), 0.0, 0.0, 0.22, 0.12), 0.75, 0.10)


def ball(b: Board) -> None:
    """A beach ball: six gores, every second one pale, a cap and a highlight."""
    x, y = b.x, b.y
    body = s.circle(x, y, 0.0, 0.0, 0.94)
    b.paper(body)
    cx, cy = 0.16, -0.20
    u, v = x - cx, y - cy
    bend = torch.atan2(u, -v) + 0.35 * torch.hypot(u, v)
    gore = (torch.remainder(bend, 2 * math.pi / 3) - math.pi / 3).abs() - math.pi / 8.5
    b.paper(torch.maximum(gore * torch.hypot(u, v), body + 0.02), rgb=CREAM, raised=0.25, detail=True)
    b.paper(s.circle(x, y, cx, cy, 0.17), 0.9, raised=0.5, detail=True)
    b.dim(torch.maximum(-s.circle(x, y, -0.24, -0.26, 0.94), body + 0.02), 0.26, 0.5)
    b.glow(s.ellipse(*s.turned(x, y, -0.42, -0.48, -0.75), 0.0, 0.0, 0.25, 0.13), 0.55, 0.12)


def boat(b: Board) -> None:
    """A sailing boat: hull with a pale line, mast, a large and a small sail, a pennant."""
    x, y = b.x, b.y
    b.paper(s.polygon(x, y, [(0.03, -0.99), (0.03, -0.82), (-0.24, -0.90)], 0.02), 0.8)
    b.paper(s.segment(x, y, (0.03, -0.94), (0.03, 0.50), 0.045), rgb=WOOD, raised=0.6)
    b.paper(s.polygon(x, y, [(0.14, -0.74), (0.14, 0.26), (0.78, 0.26)], 0.05), rgb=CREAM)
    b.paper(s.polygon(x, y, [(-0.08, -0.78), (-0.08, 0.26), (-0.78, 0.26)], 0.05), white=0.10)
    hull = s.polygon(x, y, [(-0.88, 0.46), (0.94, 0.46), (0.58, 0.92), (-0.60, 0.92)], 0.06)
    b.paper(hull)
    line = s.both(hull + 0.02, (y - 0.57).abs() - 0.05)
    b.paper(line, white=0.70, raised=0.2, detail=True)
    b.dim(torch.maximum(0.76 - y, hull + 0.02), 0.22, 0.06)


def rocket(b: Board) -> None:
    """A rocket standing upright: dark nose, porthole, three fins, a flame."""
    x, y = b.x, b.y
    flame = s.blend(
        s.circle(x, y, 0.0, 0.72, 0.17),
        s.polygon(x, y, [(-0.09, 0.78), (0.09, 0.78), (0.0, 1.02)], 0.02),
        0.1,
    )
    b.paper(flame, rgb=FLAME, raised=0.4)
    b.paper(s.ellipse(x, y, 0.0, 0.70, 0.09, 0.15), rgb=LAMP, raised=0.0, detail=True)
    for side in (-1, 1):
        fin = [(side * 0.26, 0.08), (side * 0.66, 0.50), (side * 0.64, 0.82), (side * 0.26, 0.52)]
        b.paper(s.polygon(x, y, fin, 0.06), 0.70)
    body = s.both(s.circle(x, y, 0.72, 0.10, 1.12), s.circle(x, y, -0.72, 0.10, 1.12))
    body = s.both(body, y - 0.62) - 0.02
    b.paper(body)
    b.paper(s.both(body + 0.005, y + 0.40), 0.70, raised=0.5, detail=True)
    b.paper(s.both(body + 0.005, (y - 0.50).abs() - 0.06), white=0.6, raised=0.3, detail=True)
    b.paper(s.circle(x, y, 0.0, -0.10, 0.215), rgb=CREAM, raised=0.7, detail=True)
    b.paper(s.circle(x, y, 0.0, -0.10, 0.145), rgb=(0.42, 0.68, 0.84), raised=-0.5, detail=True)


def car(b: Board) -> None:
    """A small round car with two windows, dark wheels and a head lamp."""
    x, y = b.x, b.y
    cabin = [(-0.58, -0.10), (-0.38, -0.56), (0.22, -0.56), (0.54, -0.10)]
    roof = s.polygon(x, y, cabin, 0.10)
    body = s.blend(roof, s.box(x, y, 0.0, 0.18, 0.97, 0.30, r=0.20), 0.12)
    b.paper(body)
    b.paper(
        s.polygon(x, y, [(-0.44, -0.09), (-0.30, -0.42), (-0.10, -0.42), (-0.10, -0.09)], 0.05),
        rgb=GLASS,
        raised=-0.4,
        detail=True,
    )
    b.paper(
        s.polygon(x, y, [(0.10, -0.09), (0.10, -0.42), (0.20, -0.42), (0.40, -0.09)], 0.05),
        rgb=GLASS,
        raised=-0.4,
        detail=True,
    )
    b.dim(torch.maximum(0.32 - y, body + 0.02), 0.24, 0.05)
    b.paper(s.box(x, y, 0.0, 0.10, 0.07, 0.025, r=0.02), 0.7, raised=0.0, detail=True)
    b.paper(s.ellipse(x, y, 0.86, 0.12, 0.09, 0.11), rgb=LAMP, raised=0.4, detail=True)
    for cx in (-0.52, 0.52):
        b.paper(s.circle(x, y, cx, 0.46, 0.26), rgb=INK)
        b.paper(s.circle(x, y, cx, 0.46, 0.12), rgb=STEEL, raised=0.5, detail=True)


def house(b: Board) -> None:
    """A house: walls in the colour, a darker roof, a chimney, a door and two windows."""
    x, y = b.x, b.y
    b.paper(s.box(x, y, 0.44, -0.62, 0.13, 0.30, r=0.03), 0.68)
    walls = s.box(x, y, 0.0, 0.40, 0.72, 0.54, r=0.05)
    b.paper(walls)
    b.paper(s.polygon(x, y, [(0.0, -0.88), (0.88, -0.12), (-0.88, -0.12)], 0.09), 0.76)
    for cx in (-0.38, 0.38):
        b.paper(s.box(x, y, cx, 0.32, 0.19, 0.19, r=0.03), rgb=CREAM, raised=0.5, detail=True)
        b.paper(s.box(x, y, cx, 0.32, 0.125, 0.125, r=0.02), rgb=LAMP, raised=-0.4, detail=True)
    b.paper(s.box(x, y, 0.0, 0.68, 0.155, 0.27, r=0.05), rgb=WOOD, raised=0.6, detail=True)
    b.paper(s.circle(x, y, 0.0, -0.42, 0.13), rgb=CREAM, raised=0.5, detail=True)


def umbrella(b: Board) -> None:
    """An open umbrella: scalloped canopy in light and dark panels, a hooked handle."""
    x, y = b.x, b.y
    handle = [(0.0, -0.86), (0.0, 0.74), (0.06, 0.88), (0.19, 0.90), (0.28, 0.78)]
    b.paper(s.polyline(x, y, handle, 0.06), rgb=WOOD, raised=0.7)
    dome = s.both(s.ellipse(x, y, 0.0, 0.16, 0.98, 0.92), y - 0.16)
    scallops = s.union(*(s.circle(x, y, c, 0.22, 0.235) for c in (-0.78, -0.39, 0.0, 0.39, 0.78)))
    canopy = s.cut(dome, s.both(scallops, 0.0 - y))
    b.paper(canopy)
    for mid, reach in ((0.0, 0.28),):
        panel = s.ellipse(x, y, mid, 0.16, reach, 0.90)
        b.paper(s.both(panel, canopy + 0.01), white=0.34, raised=0.4, detail=True)
    for side in (-1, 1):
        panel = s.both(canopy + 0.01, 0.62 - s.ellipse(side * x, y, 0.0, 0.16, 0.66, 0.90) - 0.62)
        b.dim(panel, 0.22, 0.03)
    b.paper(s.circle(x, y, 0.0, -0.84, 0.075), 0.8)
