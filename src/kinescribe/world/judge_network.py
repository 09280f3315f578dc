"""The judge's network: one picture encoder for all frames, a map of where the subject is, and heads that read it.

What a subject is and its colour are read where the map says it is; its motion from how the map, learnt key points
and a coarse code of every frame change over time, so a moving camera can be told from a moving subject.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.world import measures
from kinescribe.world.clip import CAMERAS, COLOURS, MOTIONS, SCENES, SUBJECTS, TIMES

CELL = 8
"""Pixels to a side of one cell of the subject map."""
TINTS = 24
"""Channels of the learnt colour histogram."""
TRAITS = 96
"""Channels that describe a subject."""
PALETTE = slice(2, None, 4)
"""Colours are read from every fourth frame, some of them in the middle of the clip."""
REGIONS = ("whole", "left", "right")
COUNTS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Sizes: square frames of `size` pixels, `frames` of them; channels at 1/2, 1/4, 1/8 and 1/16 of the size."""

    size: int
    frames: int
    widths: tuple[int, int, int, int]
    groups: int
    keypoints: int
    codes: int
    width: int


@dataclass(frozen=True)
class Answers:
    """Logits of everything asked, and of where subjects are.

    `subject` and `colour` are given for the whole frame and for its left and right half (clips with two subjects).
    """

    subject: Float[Tensor, "b 3 subjects"]
    colour: Float[Tensor, "b 3 colours"]
    scene: Float[Tensor, "b scenes"]
    time: Float[Tensor, "b times"]
    motion: Float[Tensor, "b motions"]
    camera: Float[Tensor, "b cameras"]
    count: Float[Tensor, "b 2"]
    where: Float[Tensor, "b f g g"]


class JudgeNetwork(nn.Module):
    """Frames to `Answers`; pixels in [-1, 1]."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.cells = config.size // CELL
        fine, deep = config.widths[2:]
        self.encoder = Encoder(config.widths, config.groups)
        self.where = nn.Conv2d(fine, 1, 1)
        self.traits = nn.Conv2d(fine, TRAITS, 1)
        self.tints = nn.Sequential(nn.Conv2d(3, TINTS, 1), nn.SiLU(), nn.Conv2d(TINTS, TINTS, 1), nn.SiLU())
        self.motion = MotionHead(config)
        self.subject = _head(TRAITS, len(SUBJECTS))
        self.colour = _head(TRAITS + 2 * TINTS, len(COLOURS))
        self.scene = _head(deep + TINTS, len(SCENES))
        self.time = _head(deep + TINTS, len(TIMES))

    def forward(self, frames: Float[Tensor, "b f 3 h w"]) -> Answers:
        """Everything the judge can say of `config.frames` frames of `config.size` pixels."""
        pictures = rearrange(frames, "b f c h w -> (b f) c h w")
        fine, deep = self.encoder(pictures)
        where = rearrange(self.where(fine), "(b f) 1 y x -> b f y x", b=len(frames)).float()
        traits = _clips(F.silu(self.traits(fine)), len(frames)).float()
        with torch.autocast(frames.device.type, enabled=False):
            cover = where.sigmoid() + 1e-4
            regions = self._regions(cover)
            described = torch.einsum("brfyx,bfcyx->brc", regions, traits)
            coloured, around = self._colours(frames[:, PALETTE].float(), cover)
            scenery = torch.cat([_clips(deep.float(), len(frames)).mean(dim=(1, 3, 4)), around], 1)
            everywhere = repeat(around, "b c -> b r c", r=len(REGIONS))
            motion, camera, count = self.motion(cover, traits, fine.float(), deep.float())
            return Answers(
                subject=self.subject(described),
                colour=self.colour(torch.cat([described, coloured, everywhere], 2)),
                scene=self.scene(scenery),
                time=self.time(scenery),
                motion=motion,
                camera=camera,
                count=count,
                where=where,
            )

    def _regions(self, cover: Float[Tensor, "b f g g"]) -> Float[Tensor, "b 3 f g g"]:
        """Weights that sum to one over each region: the whole clip, or one half of its middle frames.

        Two subjects stand in the two halves; only in the middle of the clip does none reach across.
        """
        f, g = cover.shape[1], self.cells
        mask = torch.zeros(len(REGIONS), f, 1, g, device=cover.device)
        middle = slice(f // 4, f - f // 4)
        mask[0] = 1
        mask[1, middle, :, : g // 2] = 1
        mask[2, middle, :, g // 2 :] = 1
        weights = cover[:, None] * mask
        return weights / weights.sum(dim=(2, 3, 4), keepdim=True)

    def _colours(
        self, frames: Float[Tensor, "b k 3 h w"], cover: Float[Tensor, "b f g g"]
    ) -> tuple[Float[Tensor, "b 3 c"], Float[Tensor, "b c"]]:
        """A histogram over learnt tints of the subject in each region, and of the whole picture."""
        half = F.avg_pool2d(rearrange(frames, "b k c h w -> (b k) c h w"), 2)
        tints = self.tints(half)
        few = rearrange(cover[:, PALETTE], "b k y x -> (b k) 1 y x")
        pixels = F.interpolate(few, size=half.shape[-2:], mode="bilinear", align_corners=False).square()
        inside = _clips(F.adaptive_avg_pool2d(tints * pixels, self.cells), len(frames))
        share = _clips(F.adaptive_avg_pool2d(pixels, self.cells), len(frames))
        regions = self._regions(torch.ones_like(cover))[:, :, PALETTE]
        found = torch.einsum("brkyx,bkcyx->brc", regions, inside)
        return found / torch.einsum("brkyx,bkcyx->brc", regions, share), _clips(tints, len(frames)).mean(
            dim=(1, 3, 4)
        )


class Encoder(nn.Module):
    """Pictures to features at 1/8 (which have seen those at 1/16) and at 1/16 of their size."""

    def __init__(self, widths: tuple[int, int, int, int], groups: int) -> None:
        super().__init__()
        half, quarter, fine, deep = widths
        self.stem = nn.Sequential(
            Layer(3, half, groups, kernel=5, stride=2),
            Layer(half, quarter, groups, stride=2),
            Block(quarter, groups),
        )
        self.fine = nn.Sequential(Layer(quarter, fine, groups, stride=2), Block(fine, groups))
        self.deep = nn.Sequential(Layer(fine, deep, groups, stride=2), Block(deep, groups))
        self.lift = nn.Conv2d(deep, fine, 1)
        self.join = Block(fine, groups)

    def forward(
        self, x: Float[Tensor, "n 3 h w"]
    ) -> tuple[Float[Tensor, "n c y x"], Float[Tensor, "n d v u"]]:
        """Fine features `h/8 w/8` and deep ones `h/16 w/16`."""
        fine = self.fine(self.stem(x))
        deep = self.deep(fine)
        return self.join(fine + F.interpolate(self.lift(deep), scale_factor=2.0, mode="nearest")), deep


class MotionHead(nn.Module):
    """Motion, camera and number of subjects, from how every frame's measures change over time."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        fine, deep = config.widths[2:]
        width, coarse = config.width, config.size // (2 * CELL)
        self.points = nn.Conv2d(fine, config.keypoints, 1)
        self.codes = nn.Conv2d(deep, config.codes, 1)
        inside = measures.GEOMETRY + 2 * config.keypoints + TRAITS + config.codes * coarse**2
        self.enter = nn.Linear(inside, width)
        self.place = nn.Parameter(0.02 * torch.randn(width, config.frames))
        self.layers = nn.ModuleList(TimeBlock(width, config.groups, dilation) for dilation in (1, 2, 4))
        self.leave = nn.Conv1d(width, width // 4, 1)
        self.sum_up = nn.Sequential(nn.Linear(width // 4 * config.frames, 2 * width), nn.SiLU())
        self.motion = nn.Linear(2 * width, len(MOTIONS))
        self.camera = nn.Linear(2 * width, len(CAMERAS))
        self.count = nn.Linear(2 * width, len(COUNTS))

    def forward(
        self,
        cover: Float[Tensor, "b f g g"],
        traits: Float[Tensor, "b f t g g"],
        fine: Float[Tensor, "n c g g"],
        deep: Float[Tensor, "n d u u"],
    ) -> tuple[Float[Tensor, "b motions"], Float[Tensor, "b cameras"], Float[Tensor, "b 2"]]:
        """Logits from the subject map, the subject's traits and the features of all frames, `n = b f`."""
        b = len(cover)
        weights = cover / cover.sum(dim=(2, 3), keepdim=True)
        described = torch.einsum("bfyx,bfcyx->bfc", weights, traits)
        points, codes = _clips(self.points(fine), b), _clips(self.codes(deep), b)
        measured = [
            measures.geometry(cover),
            rearrange(measures.centres(points), "b f k a -> b f (k a)"),
            described,
            rearrange(codes, "b f c y x -> b f (c y x)"),
        ]
        x = rearrange(self.enter(torch.cat(measured, 2)), "b f c -> b c f") + self.place
        for layer in self.layers:
            x = layer(x)
        summary = self.sum_up(rearrange(F.silu(self.leave(x)), "b c f -> b (c f)"))
        return self.motion(summary), self.camera(summary), self.count(summary)


class Layer(nn.Module):
    """Convolution, group normalisation, SiLU."""

    def __init__(self, inside: int, outside: int, groups: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        self.norm = Norm(outside, groups)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d v u"]:
        """Features at the size divided by the stride."""
        return F.silu(self.norm(self.conv(x)))


class Block(nn.Module):
    """Two layers beside a direct path."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(width, width, groups), Layer(width, width, groups))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Same shape."""
        return x + self.layers(x)


class TimeBlock(nn.Module):
    """Two convolutions along time beside a direct path."""

    def __init__(self, width: int, groups: int, dilation: int) -> None:
        super().__init__()
        self.norm = Norm(width, groups)
        self.first = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c f"]) -> Float[Tensor, "b c f"]:
        """Same shape."""
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class Norm(nn.Module):
    """Group normalisation that keeps its input's number format, where autocast would go up to float32."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """Same shape."""
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype))


def _head(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, 96), nn.SiLU(), nn.Linear(96, outside))


def _clips(x: Float[Tensor, "n c y x"], b: int) -> Float[Tensor, "b f c y x"]:
    return rearrange(x, "(b f) c y x -> b f c y x", b=b)
