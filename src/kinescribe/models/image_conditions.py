"""What the image-to-video models of the family put beside the trunk: frame rate and picture as conditions.

ModelScope Image-to-Video turns the embedding of a picture into the only tokens that its UNet reads. I2VGen-XL
(Zhang et al. 2023, arXiv 2311.04145) reads a text as well, and the picture's latents both as tokens and as
channels beside the noisy clip.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

from kinescribe.models.conditions import Conditioning
from kinescribe.models.unet import sinusoid
from kinescribe.ops.attention import frame_attention
from kinescribe.ops.temporal import channels_last, clips, pictures

LOCAL_HEADS = 2
POOLED = 32
"""Rows and columns that the picture's latents are averaged to, whatever their size; a quarter of it remains."""


@dataclass(frozen=True, kw_only=True)
class ImageConditionsConfig:
    """Sizes of the conditions.

    ``width`` is the UNet's (its embedding has four times as much), ``image_width`` that of a picture's
    embedding, ``context_dim`` that of the UNet's tokens, ``image_tokens`` of which are made of one embedding.
    ``local_channels`` counts the channels of the picture's latents, 0 where they are not used, and
    ``local_additions`` how often what is made of them is added up.
    """

    width: int
    image_width: int
    context_dim: int
    image_tokens: int
    local_channels: int
    local_additions: int


class LocalTemporal(nn.Module):
    """Every pixel attends over its own frames, then a perceptron that sees the stream as it is; each added back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = LOCAL_HEADS * channels
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * inner, bias=False)
        self.out = nn.Linear(inner, channels)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """Same shape."""
        h, w = x.shape[-2:]
        y = rearrange(x, "b c f h w -> b f (h w) c")
        q, k, v = self.qkv(self.norm(y)).chunk(3, -1)
        y = y + self.out(frame_attention(q, k, v, LOCAL_HEADS))
        y = y + self.feed_forward(y)
        return rearrange(y, "b f (h w) c -> b c f h w", h=h, w=w)


class LocalImage(nn.Module):
    """The latents of a picture as channels beside those of the clip, and as tokens."""

    def __init__(self, channels: int, context_dim: int) -> None:
        super().__init__()
        c = channels
        self.channels = nn.Sequential(
            nn.Conv2d(c, 4 * c, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * c, 4 * c, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4 * c, c, 3, padding=1),
        )
        self.temporal = LocalTemporal(c)
        self.tokens = nn.Sequential(
            nn.Conv2d(c, 8 * c, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(POOLED),
            nn.Conv2d(8 * c, 16 * c, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16 * c, context_dim, 3, stride=2, padding=1),
        )

    def forward(
        self, latents: Float[Tensor, "b c h w"], frames: int
    ) -> tuple[Float[Tensor, "b c f h w"], Float[Tensor, "b n d"]]:
        """Channels for every frame and, row by row, 64 tokens for any ``h`` and ``w``."""
        clip = channels_last(with_ramp(latents, frames))
        local = self.temporal(clips(self.channels(pictures(clip)), len(latents)))
        return local, rearrange(self.tokens(latents), "b d y x -> b (y x) d")


class ImageConditions(nn.Module):
    """Frame rate, picture and text to what the UNet is told."""

    def __init__(self, config: ImageConditionsConfig) -> None:
        super().__init__()
        self.config = config
        width, wide = config.width, 4 * config.width
        self.fps = nn.Sequential(nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.image = nn.Sequential(
            nn.Linear(config.image_width, wide),
            nn.SiLU(),
            nn.Linear(wide, config.image_tokens * config.context_dim),
        )
        self.local = LocalImage(config.local_channels, config.context_dim) if config.local_channels else None

    def forward(
        self,
        *,
        fps: Num[Tensor, " b"],
        image: Float[Tensor, "b 1 e"] | None,
        text: Float[Tensor, "b n d"] | None,
        latents: Float[Tensor, "b c h w"] | None,
        frames: int,
    ) -> Conditioning:
        """``image`` is the picture's embedding, ``latents`` its scaled latents, where the model has a use for them.

        What is None leaves its tokens out; their order is text, latents, embedding. The negative branch takes
        a zero embedding and the negative prompt's text, and keeps ``fps`` and ``latents``.
        """
        tokens: list[Tensor] = [] if text is None else [text]
        concat = None
        if self.local is not None and latents is not None:
            local, around = self.local(latents, frames)
            concat = self.config.local_additions * local
            tokens.append(around)
        if image is not None:
            tokens.append(rearrange(self.image(image), "b 1 (n d) -> b n d", d=self.config.context_dim))
        rate = sinusoid(fps, self.config.width).to(next(self.fps.parameters()).dtype)
        return Conditioning(tokens=torch.cat(tokens, 1), concat=concat, embedding=self.fps(rate))


def with_ramp(latents: Float[Tensor, "b c h w"], frames: int) -> Float[Tensor, "b c f h w"]:
    """A clip whose first frame is the picture and whose frame k says its place, ``k / (frames - 1)``, everywhere."""
    places = torch.arange(1, frames, dtype=latents.dtype, device=latents.device) / max(frames - 1, 1)
    ramp = places[:, None, None].expand(*latents.shape[:2], -1, *latents.shape[2:])
    return torch.cat([latents[:, :, None], ramp], 2)
