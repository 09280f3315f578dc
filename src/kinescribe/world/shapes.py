"""Signed distance fields: how far a point is outside (positive) or inside (negative) a shape.

Distances are in the units of the coordinates; x grows to the right, y grows downwards. All functions are
elementwise, so `x` and `y` may be broadcastable tensors of any shape. Formulas after the catalogue of
two-dimensional distance functions by I. Quilez.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Number = float | Tensor


def circle(x: Tensor, y: Tensor, cx: Number, cy: Number, r: Number) -> Tensor:
    """A disc of radius `r` about (cx, cy)."""
    return torch.hypot(x - cx, y - cy) - r


def ellipse(x: Tensor, y: Tensor, cx: Number, cy: Number, rx: Number, ry: Number) -> Tensor:
    """An ellipse; the distance is first order (value over gradient), exact at the edge."""
    u, v = (x - cx) / rx, (y - cy) / ry
    k = torch.hypot(u, v)
    g = torch.hypot(u / rx, v / ry)
    return torch.where(g > 1e-4, k * (k - 1.0) / g.clamp(min=1e-4), k - 1.0 + k * 0 - 0.05)


def box(x: Tensor, y: Tensor, cx: Number, cy: Number, hx: Number, hy: Number, *, r: float = 0.0) -> Tensor:
    """A rectangle of half sizes (hx, hy), its corners rounded by `r` (inside those half sizes)."""
    qx, qy = (x - cx).abs() - hx + r, (y - cy).abs() - hy + r
    outside = torch.hypot(qx.clamp(min=0), qy.clamp(min=0))
    return outside + torch.maximum(qx, qy).clamp(max=0) - r


def segment(x: Tensor, y: Tensor, a: tuple[float, float], b: tuple[float, float], r: float) -> Tensor:
    """A stroke from `a` to `b` with round ends and half width `r`."""
    bx, by = b[0] - a[0], b[1] - a[1]
    px, py = x - a[0], y - a[1]
    t = ((px * bx + py * by) / (bx * bx + by * by)).clamp(0, 1)
    return torch.hypot(px - bx * t, py - by * t) - r


def polyline(x: Tensor, y: Tensor, points: Sequence[tuple[float, float]], r: float) -> Tensor:
    """A stroke through all `points` with half width `r`."""
    d = segment(x, y, points[0], points[1], r)
    for a, b in zip(points[1:], points[2:], strict=False):
        d = torch.minimum(d, segment(x, y, a, b, r))
    return d


def polygon(x: Tensor, y: Tensor, points: Sequence[tuple[float, float]], r: float = 0.0) -> Tensor:
    """A closed polygon, grown by `r` with round corners; exact."""
    d = torch.full_like(x, 1e9)
    sign = torch.ones_like(x)
    for (ax, ay), (bx, by) in zip(points, (*points[1:], points[0]), strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, x - ax, y - ay
        t = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        d = torch.minimum(d, (wx - ex * t) ** 2 + (wy - ey * t) ** 2)
        up, down, left = y >= ay, y < by, ex * wy > ey * wx
        flips = (up & down & left) | (~up & ~down & ~left)
        sign = torch.where(flips, -sign, sign)
    return sign * d.sqrt() - r


def star_points(n: int, outer: float, inner: float, turn: float = 0.0) -> list[tuple[float, float]]:
    """The 2n corners of a star about the origin, the first corner upwards, turned by `turn` radians."""
    corners = []
    for i in range(2 * n):
        a, r = math.pi * i / n + turn, outer if i % 2 == 0 else inner
        corners.append((r * math.sin(a), -r * math.cos(a)))
    return corners


def heart(x: Tensor, y: Tensor) -> Tensor:
    """A heart of height 1 whose point is at the origin and whose lobes reach up to y = -1.1."""
    u, v = x.abs(), -y
    lobe = torch.hypot(u - 0.25, v - 0.75) - math.sqrt(2) / 4
    top = u**2 + (v - 1.0) ** 2
    fold = 0.5 * (u + v).clamp(min=0)
    low = (u - fold) ** 2 + (v - fold) ** 2
    return torch.where(u + v > 1, lobe, torch.minimum(top, low).sqrt() * torch.sign(u - v))


def crescent(x: Tensor, y: Tensor, outer: float, inner: float, apart: float) -> Tensor:
    """A disc of radius `outer` less one of radius `inner` whose middle lies `apart` to the right; exact."""
    v = y.abs()
    a = (outer**2 - inner**2 + apart**2) / (2 * apart)
    b = math.sqrt(max(outer**2 - a**2, 0.0))
    at_horn = (x * b - v * a) > apart * (b - v).clamp(min=0)
    between = torch.maximum(torch.hypot(x, v) - outer, inner - torch.hypot(x - apart, v))
    return torch.where(at_horn, torch.hypot(x - a, v - b), between)


def union(*shapes: Tensor) -> Tensor:
    """Everything that lies in any of the shapes."""
    d = shapes[0]
    for other in shapes[1:]:
        d = torch.minimum(d, other)
    return d


def blend(a: Tensor, b: Tensor, k: float) -> Tensor:
    """A union whose inner corners are filled over a width of `k` (polynomial smooth minimum)."""
    h = (k - (a - b).abs()).clamp(min=0) / k
    return torch.minimum(a, b) - h * h * (k / 4)


def cut(a: Tensor, b: Tensor) -> Tensor:
    """What is left of `a` when `b` is taken away."""
    return torch.maximum(a, -b)


def both(a: Tensor, b: Tensor) -> Tensor:
    """What lies in both shapes."""
    return torch.maximum(a, b)


def turned(x: Tensor, y: Tensor, cx: float, cy: float, angle: float) -> tuple[Tensor, Tensor]:
    """Coordinates about (cx, cy) in a frame turned clockwise by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    u, v = x - cx, y - cy
    return u * c + v * s, -u * s + v * c


def smooth(edge0: float, edge1: float, x: Tensor) -> Tensor:
    """The cubic step from 0 at `edge0` to 1 at `edge1`."""
    t = ((x - edge0) / (edge1 - edge0)).clamp(0, 1)
    return t * t * (3 - 2 * t)
