"""Clips into pictures, in batches: scenes painted once per clip, sprites picked from the atlas, then composed.

Nothing is drawn per frame: each frame resamples its clip's four sheets under the camera and lays the sprites,
each with its drop shadow, on top. Everything follows from the clip's integers, so clips render alike alone or in a batch, and a
larger `size` gives the same picture with more pixels.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from kinescribe.world import motions, palette, scenes, sheet, sprites
from kinescribe.world.clip import FRAMES, SCENES, Clips
from kinescribe.world.paper import HALF_WIDTH
from kinescribe.world.shapes import smooth

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
    clips: Clips, at: Float[Tensor, " n"] | float = 0.5, *, size: int = 128, device: torch.device | str = "cpu"
) -> UInt8[Tensor, "n h w 3"]:
    """One picture of each clip, at its time `at` in [0, 1]."""
    times = torch.as_tensor(at, dtype=torch.float32, device=device).expand(len(clips))
    return render_at(clips, times[:, None], size=size)[:, 0]


@torch.no_grad()
def render_at(clips: Clips, times: Float[Tensor, "n f"], *, size: int) -> UInt8[Tensor, "n f h w 3"]:
    """Frames at any `times` in [0, 1], a row of them per clip, on the device of `times`."""
    parts = []
    for chunk in _chunks(len(clips), times, size):
        labels = _labels(clips[chunk], times.device)
        picture = _backdrop(labels, times[chunk], size)
        for rank in (1, 0):
            picture = _lay_sprite(picture, labels, rank, times[chunk], size)
        eight_bit = (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
        parts.append(rearrange(eight_bit, "n c f h w -> n f h w c"))
    return torch.cat(parts)


@torch.no_grad()
def subject_masks(
    clips: Clips, *, size: int = 128, frames: int = FRAMES, rank: int = 0, device: torch.device | str = "cpu"
) -> Float[Tensor, "n f h w"]:
    """How much of each pixel the first (`rank` 0) or second (1) subject covers; zeros where there is no second."""
    times = torch.linspace(0, 1, frames, device=device).expand(len(clips), -1)
    parts = []
    for chunk in _chunks(len(clips), times, size):
        labels = _labels(clips[chunk], times.device)
        cover = torch.zeros(len(times[chunk]), frames, size, size, device=device)
        rows = _rows_with(labels, rank)
        if len(rows):
            cover[rows] = _sprite(_pick(labels, rows), rank, times[chunk][rows], size)[1]
        parts.append(cover)
    return torch.cat(parts)


def _chunks(n: int, times: Tensor, size: int) -> list[slice]:
    """Slices that keep the memory for one chunk near 6 GB on an accelerator and 0.5 GB elsewhere."""
    room = 5e8 if times.device.type == "cpu" else 6e9
    per_clip = 4 * size * size * (14 * 1.6 * 4 + 24 * times.shape[1])
    step = max(1, int(room / per_clip))
    return [slice(i, min(i + step, n)) for i in range(0, max(n, 1), step)]


def _labels(clips: Clips, device: torch.device) -> Labels:
    return {name: torch.from_numpy(column).to(device) for name, column in clips.labels().items()}


def _pick(labels: Labels, rows: Tensor) -> Labels:
    return {name: column[rows] for name, column in labels.items()}


def _rows_with(labels: Labels, rank: int) -> Int[Tensor, " m"]:
    subject = labels["second_subject" if rank else "subject"]
    return torch.nonzero(subject >= 0)[:, 0]


def _axis(size: int, device: torch.device) -> Float[Tensor, " s"]:
    return (torch.arange(size, device=device) + 0.5) / size * 2 - 1


def _backdrop(labels: Labels, t: Float[Tensor, "n f"], size: int) -> Float[Tensor, "n 3 f h w"]:
    """The scene under the moving camera, far sheets first."""
    n, f = t.shape
    sheets = _sheets(labels, size)
    pan, zoom = motions.camera(labels, t)
    axis = _axis(size, t.device)
    picture = torch.zeros(n, 3, f, size, size, device=t.device)
    for k, depth in enumerate(motions.DEPTHS):
        factor = zoom**depth
        gx = (axis / factor[..., None] + depth * pan[..., None]) / sheet.HALF_WIDTH
        gy = axis / factor[..., None] / sheet.HALF_WIDTH
        layer = _resample(sheets[:, k], gx[:, :, None, :], gy[:, :, :, None])
        picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
    return picture


def _sheets(labels: Labels, size: int) -> Float[Tensor, "n k 4 t t"]:
    """The sheets of every clip, painted scene by scene."""
    parts, order = [], []
    for scene in range(len(SCENES)):
        rows = torch.nonzero(labels["scene"] == scene)[:, 0]
        if len(rows):
            parts.append(scenes.paint(scene, labels["seed"][rows], labels["time"][rows], size))
            order.append(rows)
    return torch.cat(parts)[torch.argsort(torch.cat(order))]


def _lay_sprite(
    picture: Float[Tensor, "n 3 f h w"], labels: Labels, rank: int, t: Float[Tensor, "n f"], size: int
) -> Float[Tensor, "n 3 f h w"]:
    """The picture with one subject, and its soft shadow, on top."""
    rows = _rows_with(labels, rank)
    if not len(rows):
        return picture
    colour, cover, shadow = _sprite(_pick(labels, rows), rank, t[rows], size)
    below = picture[rows] * (1 - shadow)[:, None]
    picture[rows] = below * (1 - cover)[:, None] + colour * cover[:, None]
    return picture


def _sprite(
    labels: Labels, rank: int, t: Float[Tensor, "n f"], size: int
) -> tuple[Float[Tensor, "n 3 f h w"], Float[Tensor, "n f h w"], Float[Tensor, "n f h w"]]:
    """Colour, cover and shadow of one subject over whole frames."""
    name = "second_" if rank else ""
    subject = labels[name + "subject"]
    pose = motions.pose(labels, subject, rank, t)
    pan, zoom = motions.camera(labels, t)
    x, y, width, height = (pose.x - pan) * zoom, pose.y * zoom, pose.width * zoom, pose.height * zoom
    drawing = sprites.atlas(size, t.device)[subject, sprites.level_of((width * height).sqrt().mean(1))]
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
    light = palette.table(palette.SUBJECT_LIGHT, labels["time"])[..., None]
    body = palette.table(palette.BODY, labels[name + "colour"])[..., None]
    return (texture[:, 1:2] * body + texture[:, 2:]) * light, cover, shadow


def _resample(
    texture: Float[Tensor, "n c t t"], gx: Float[Tensor, "n f #h w"], gy: Float[Tensor, "n f h #w"]
) -> Float[Tensor, "n c f h w"]:
    """The texture at the points (gx, gy), each in [-1, 1] across the texture, all frames in one call."""
    grid = torch.stack(torch.broadcast_tensors(gx, gy), -1)
    f = grid.shape[1]
    flat = functional.grid_sample(
        texture, rearrange(grid, "n f h w c -> n (f h) w c"), padding_mode="border", align_corners=False
    )
    return rearrange(flat, "n c (f h) w -> n c f h w", f=f)
