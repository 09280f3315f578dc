"""Clips into pictures, in batches: scenes painted once per clip, sprites picked from the atlas, then composed.

Nothing is drawn per frame: each frame resamples its clip's four sheets under the camera and lays the sprites,
each with its drop shadow, on top. Everything follows from the clip's integers, so clips render alike alone or
in a batch, and a larger `size` gives the same picture with more pixels.
"""

import math
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kinescribe.world import motions, palette, scenes, sprites
from kinescribe.world.clip import FRAMES, Clips
from kinescribe.world.paper import HALF_WIDTH
from kinescribe.world.shapes import smooth
from kinescribe.world.sheet import HALF_WIDTH as HALF_SHEET

Labels = dict[str, Int[Tensor, " n"]]


@torch.no_grad()
def render(
    clips: Clips, *, size: int = 128, frames: int = FRAMES, device: torch.device | str = "cpu"
) -> UInt8[Tensor, "n f h w 3"]:
    """Every frame of every clip as 8-bit RGB, on `device`."""
    times = torch.linspace(0, 1, frames, device=device).expand(len(clips), -1)
    return render_at(clips, times, size=size)


@torch.no_grad()
def render_stills(
    clips: Clips,
    at: Float[Tensor, " n"] | float = 0.5,
    *,
    size: int = 128,
    device: torch.device | str = "cpu",
) -> UInt8[Tensor, "n h w 3"]:
    """One picture of each clip, at its time `at` in [0, 1]."""
    times = torch.as_tensor(at, dtype=torch.float32, device=device).expand(len(clips))
    return render_at(clips, times[:, None], size=size)[:, 0]


@torch.no_grad()
def render_at(clips: Clips, times: Float[Tensor, "n f"], *, size: int) -> UInt8[Tensor, "n f h w 3"]:
    """Frames at any `times` in [0, 1], a row of them per clip, on the device of `times`."""
    n, f = times.shape
    out = torch.empty(n, f, size, size, 3, dtype=torch.uint8, device=times.device)
    order = np.argsort(_backdrop_kind(clips), kind="stable")
    for chunk in _chunks(n, times, size):
        rows = torch.from_numpy(order[chunk]).to(times.device)
        some, t = clips[order[chunk]], times[rows]
        labels = _labels(some, times.device)
        picture = _backdrops(some, labels, t, size)
        for rank in (1, 0):
            picture = _lay_sprite(picture, some, labels, rank, t, size)
        eight_bit = (picture.clamp_(0, 1) * 255 + 0.5).to(torch.uint8)
        out[rows] = rearrange(eight_bit, "n c f h w -> n f h w c")
    return out


@torch.no_grad()
def subject_masks(
    clips: Clips, *, size: int = 128, frames: int = FRAMES, rank: int = 0, device: torch.device | str = "cpu"
) -> Float[Tensor, "n f h w"]:
    """How much of each pixel the first (`rank` 0) or second (1) subject covers; zeros where there is no second."""
    times = torch.linspace(0, 1, frames, device=device).expand(len(clips), -1)
    return subject_masks_at(clips, times, size=size, rank=rank)


@torch.no_grad()
def subject_masks_at(
    clips: Clips, times: Float[Tensor, "n f"], *, size: int, rank: int = 0
) -> Float[Tensor, "n f h w"]:
    """`subject_masks` at any `times`, a row of them per clip, on the device of `times`."""
    parts = []
    for chunk in _chunks(len(clips), times, size):
        some = clips[chunk]
        labels = _labels(some, times.device)
        cover = torch.zeros(len(some), times.shape[1], size, size, device=times.device)
        rows = _rows_with(some, rank, times.device)
        if len(rows):
            cover[rows] = _sprite(_pick(labels, rows), rank, times[chunk][rows], size)[1]
        parts.append(cover)
    return torch.cat(parts)


def _chunks(n: int, times: Tensor, size: int) -> list[slice]:
    """Slices that keep the memory for one chunk near 12 GB on an accelerator and 0.5 GB elsewhere."""
    room = 5e8 if times.device.type == "cpu" else 12e9
    per_clip = 4 * size * size * (14 * 1.6 * 4 + 24 * times.shape[1])
    step = max(1, int(room / per_clip))
    return [slice(i, min(i + step, n)) for i in range(0, max(n, 1), step)]


def _labels(clips: Clips, device: torch.device) -> Labels:
    return {name: torch.from_numpy(column).to(device) for name, column in clips.labels().items()}


def _pick(labels: Labels, rows: Int[Tensor, " m"]) -> dict[str, Int[Tensor, " m"]]:
    return {name: column[rows] for name, column in labels.items()}


def _rows_with(clips: Clips, rank: int, device: torch.device) -> Int[Tensor, " m"]:
    subject = clips.second_subject if rank else clips.subject
    return torch.from_numpy(np.flatnonzero(subject >= 0)).to(device)


def _axis(size: int, device: torch.device) -> Float[Tensor, " s"]:
    return (torch.arange(size, device=device) + 0.5) / size * 2 - 1


def _backdrop_kind(clips: Clips) -> NDArray[Any]:
    """Twice the scene, plus one where the backdrop changes over time."""
    swelling = np.isin(clips.scene, list(scenes.SWELL))
    return 2 * clips.scene + ((clips.camera > 0) | swelling)


def _backdrops(
    clips: Clips, labels: Labels, t: Float[Tensor, "n f"], size: int
) -> Float[Tensor, "n 3 f h w"]:
    """The scenes under the moving camera, painted scene by scene; one frame serves all where nothing moves."""
    n, f = t.shape
    picture = torch.empty(n, 3, f, size, size, device=t.device)
    kinds = _backdrop_kind(clips)
    for kind in np.unique(kinds):
        scene, changing = divmod(int(kind), 2)
        rows = torch.from_numpy(np.flatnonzero(kinds == kind)).to(t.device)
        picture[rows] = _backdrop(scene, _pick(labels, rows), t[rows] if changing else t[rows, :1], size)
    return picture


def _backdrop(scene: int, labels: Labels, t: Float[Tensor, "n f"], size: int) -> Float[Tensor, "n 3 f h w"]:
    """One scene for several clips: its sheets, far ones first, each under the camera."""
    pan, zoom = motions.camera(labels, t)
    swell = scenes.SWELL.get(scene, (0.0,) * len(motions.DEPTHS))
    axis = _axis(size, t.device)
    picture = torch.zeros((), device=t.device)
    for k, sheet in enumerate(scenes.paint(scene, labels["seed"], labels["time"], size)):
        depth = motions.DEPTHS[k]
        factor = zoom**depth
        drift = depth * pan + swell[k] * torch.sin(2 * math.pi * (t + 0.3 * k))
        gx = (axis / factor[..., None] + drift[..., None]) / HALF_SHEET
        gy = axis / factor[..., None] / HALF_SHEET
        layer = _resample(sheet, gx[:, :, None, :], gy[:, :, :, None])
        picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
    return picture


def _lay_sprite(
    picture: Float[Tensor, "n 3 f h w"],
    clips: Clips,
    labels: Labels,
    rank: int,
    t: Float[Tensor, "n f"],
    size: int,
) -> Float[Tensor, "n 3 f h w"]:
    """The picture with one subject, and its soft shadow, on top."""
    rows = _rows_with(clips, rank, t.device)
    if not len(rows):
        return picture
    some = _pick(labels, rows)
    colour, cover, shadow, halo = _sprite(some, rank, t[rows], size)
    below = picture[rows] * (1 - shadow)[:, None]
    glow = palette.table(palette.HALO, some["time"])[..., None]
    below = below + (glow - below) * halo[:, None]
    picture[rows] = below * (1 - cover)[:, None] + colour * cover[:, None]
    return picture


def _sprite(
    labels: Labels, rank: int, t: Float[Tensor, "n f"], size: int
) -> tuple[
    Float[Tensor, "n 3 f h w"], Float[Tensor, "n f h w"], Float[Tensor, "n f h w"], Float[Tensor, "n f h w"]
]:
    """Colour, cover, shadow and moonlit halo of one subject over whole frames."""
    name = "second_" if rank else ""
    subject = labels[name + "subject"]
    pose = motions.pose(labels, subject, rank, t)
    pan, zoom = motions.camera(labels, t)
    x, y, width, height = (pose.x - pan) * zoom, pose.y * zoom, pose.width * zoom, pose.height * zoom
    drawing = sprites.atlas(size, t.device)[subject, sprites.level_of(pose.radius)]
    axis = _axis(size, t.device)
    cos, sin = pose.turn.cos()[..., None, None], pose.turn.sin()[..., None, None]

    def seen_from(dx: float, dy: float) -> tuple[Tensor, Tensor]:
        u = axis[None, None, None, :] - (x + dx)[..., None, None]
        v = axis[None, None, :, None] - (y + dy)[..., None, None]
        across = (u * cos + v * sin) / width[..., None, None] * pose.facing[..., None, None]
        down = (v * cos - u * sin) / height[..., None, None]
        return across / HALF_WIDTH, down / HALF_WIDTH

    radius = (width * height).sqrt()[..., None, None]
    texture = _resample(drawing, *seen_from(0.0, 0.0))
    outline = texture[:, 0] * radius
    cover = smooth(0.8, -0.8, outline * (size / 2))
    behind = _resample(drawing[:, :1], *seen_from(0.05, 0.075))[:, 0] * radius
    shadow = 0.42 * smooth(0.085, -0.085, behind)
    moonlit = 0.34 * (labels["time"] == 2).float()[:, None, None, None]
    halo = moonlit * smooth(0.13, -0.03, outline)
    light = palette.table(palette.SUBJECT_LIGHT, labels["time"])[..., None]
    body = palette.table(palette.BODY, labels[name + "colour"])[..., None]
    return (texture[:, 1:2] * body + texture[:, 2:]) * light, cover, shadow, halo


def _resample(
    texture: Float[Tensor, "n c t t"], gx: Float[Tensor, "n f hx w"], gy: Float[Tensor, "n f h wy"]
) -> Float[Tensor, "n c f h w"]:
    """The texture at the points (gx, gy), each in [-1, 1] across the texture, all frames in one call.

    The extents `hx` and `wy` may be 1, for grids that stay parallel to the axes.
    """
    f, h, w = gx.shape[1], gy.shape[2], gx.shape[3]
    grid = torch.stack([gx.expand(-1, -1, h, -1), gy.expand(-1, -1, -1, w)], -1)
    flat = functional.grid_sample(
        texture, rearrange(grid, "n f h w c -> n (f h) w c"), padding_mode="border", align_corners=False
    )
    return rearrange(flat, "n c (f h) w -> n c f h w", f=f)
