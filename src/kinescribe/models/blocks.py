"""Residual blocks, temporal convolutions and resampling of the UNet."""

from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.convolution import PointwiseConv, ShiftedConv, Waiting, convolve
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.normed_convolution import normed_convolution
from kinescribe.ops.parts import Parts, Stream, first, summed, viewed, whole
from kinescribe.ops.select import windows_serve
from kinescribe.ops.slices import in_slices, rows_at_once
from kinescribe.ops.temporal import TemporalConv, clips, laid_for, pictures
from kinescribe.ops.upsample import UpsampleConv


class TemporalConvStage(nn.Module):
    """Normalise over the whole clip, SiLU, drop, convolve along time."""

    def __init__(self, channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=1e-5, silu=True)
        self.dropout = nn.Dropout(dropout)
        self.conv = TemporalConv(channels)

    def forward(
        self, x: Float[Tensor, "b c f p"] | Parts, waiting: Waiting
    ) -> tuple[Float[Tensor, "b c f p"], Waiting, Float[Tensor, "b c f p"]]:
        """What becomes of ``x``, of the same shape, and the whole of ``x``; ``p`` counts pixels.

        Of ``x`` a bias may still be waiting, and of the result, which comes with it.
        """
        bias = self.conv.bias[None]
        made = normed_convolution(self.norm, x, waiting, self.conv.weight)
        if made is not None:
            return made[1], bias, made[0]
        given = self.conv.weight, self.conv.bias, self.norm.weight, self.norm.bias, waiting
        if not self.training and windows_serve(first(x), *given):
            x, windows = self.norm.reading(x, waiting, laid=laid_for(x.shape[3]))
            return self.conv.over(windows), bias, x
        x, normed = self.norm.reading(x, waiting)
        return *convolve(self.dropout(normed), self.conv), x

    def onto(
        self, stream: Float[Tensor, "b c f p"], x: Float[Tensor, "b c f p"], waiting: Waiting, ahead: Waiting
    ) -> Stream:
        """The ``stream`` with what becomes of ``x``, and what comes ``ahead``: ``b c f p``."""
        bias = self.conv.bias[None]
        made = normed_convolution(self.norm, x, waiting, self.conv.weight, lambda: (stream, bias, ahead))
        if made is not None:
            return made[1]
        y, waiting = self(x, waiting)[:2]
        return summed(stream, y, waiting, ahead)


class TemporalConvBlock(nn.Module):
    """Four temporal convolutions in a row, added to the input."""

    def __init__(self, channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        # The first stage was trained without dropout.
        stages = [TemporalConvStage(channels, groups, dropout if i else 0.0) for i in range(4)]
        nn.init.zeros_(stages[-1].conv.weight)
        nn.init.zeros_(stages[-1].conv.bias)
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Float[Tensor, "b c f h w"] | Parts, ahead: Waiting = None) -> Stream:
        """Same shape; with ``ahead`` added to every pixel."""
        h, w = x.shape[-2:]
        opening, *stages, last = cast(list[TemporalConvStage], list(self.stages))
        y, waiting, stream = opening(
            viewed(x, lambda part: rearrange(part, "b c f h w -> b c f (h w)")), None
        )
        for stage in stages:
            y, waiting = stage(y, waiting)[:2]  # and not what it was made of
        out = last.onto(stream, y, waiting, ahead)
        return viewed(out, lambda part: rearrange(part, "b c f (h w) -> b c f h w", h=h, w=w))


class ResidualBlock(nn.Module):
    """Two spatial convolutions with the time embedding between them, then the temporal block."""

    def __init__(self, c_in: int, c_out: int, embedding: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, c_in, eps=1e-5, silu=True)
        self.conv1 = ShiftedConv(c_in, c_out)
        self.embed = nn.Linear(embedding, c_out)
        self.norm2 = GroupNorm(groups, c_out, eps=1e-5, silu=True)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Identity() if c_in == c_out else PointwiseConv(c_in, c_out)
        self.temporal = TemporalConvBlock(c_out, groups, dropout)
        nn.init.zeros_(self.conv2.weight)
        if self.conv2.bias is not None:
            nn.init.zeros_(self.conv2.bias)

    def forward(
        self, x: Float[Tensor, "b c f h w"] | Parts, shift: Float[Tensor, "b o"], ahead: Waiting = None
    ) -> Stream:
        """``b o f h w``: ``c_out`` channels; space and time keep their sizes.

        ``shift`` is what ``embed`` makes of the time, and the bias of ``conv1``. What comes ``ahead`` is added to the
        result for those who come after. Of a large clip some frames are worked on at a time.
        """
        b, _, f, h, w = x.shape
        at_once = rows_at_once() // (b * h * w)
        if f <= at_once:
            return self.temporal(self._frames(x, shift), ahead)
        return self.temporal(
            in_slices(lambda part: whole(self._frames(part, shift)), whole(x), 2, at_once), ahead
        )

    def _frames(self, x: Float[Tensor, "b c f h w"] | Parts, shift: Float[Tensor, "b o"]) -> Stream:
        count, flat, bias = x.shape[0], viewed(x, pictures), cast(Tensor, self.conv2.bias)[None]
        made = normed_convolution(self.norm1, flat, None, self.conv1.weight)
        if made is None:
            flat, y = self.norm1.reading(flat)
            y = self.conv1(y)
        else:
            flat, y = made
        made = normed_convolution(
            self.norm2, y, shift, self.conv2.weight, lambda: (self.shortcut(flat), bias, None)
        )
        if made is not None:
            return clips(made[1], count)
        y, waiting = convolve(self.dropout(self.norm2(y, shift)), self.conv2)
        return viewed(summed(self.shortcut(flat), y, waiting), lambda part: clips(part, count))


class Downsample(nn.Module):
    """Halve height and width by a strided convolution; odd sizes round up.

    ``row_padding`` zero rows are put above and below, always one zero column on either side.
    """

    def __init__(self, channels: int, row_padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=(row_padding, 1))

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h2 w2"]:
        """``ceil(h / 2) + row_padding - 1`` by ``ceil(w / 2)``."""
        return clips(self.conv(pictures(x)), x.shape[0])


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to the size of the skip it will meet, then a convolution.

    The rows that ``row_padding`` above one added on the way down are enlarged and cut off again before the
    convolution.
    """

    def __init__(self, channels: int, row_padding: int) -> None:
        super().__init__()
        self.extra_rows = row_padding - 1
        self.conv = UpsampleConv(channels)

    def forward(self, x: Float[Tensor, "b c f h w"], size: torch.Size) -> Float[Tensor, "b c f h2 w2"]:
        """``size`` is ``(h2, w2)``: twice the input less the extra rows, or one less where that met an odd size."""
        (h, w), extra, flat = size, self.extra_rows, pictures(x)
        if extra == 0 and (h, w) == (2 * x.shape[3], 2 * x.shape[4]):
            return clips(self.conv.enlarged(flat), len(x))
        flat = F.interpolate(flat, size=(h + 2 * extra, w), mode="nearest")
        return clips(self.conv(flat[:, :, extra : extra + h]), len(x))
