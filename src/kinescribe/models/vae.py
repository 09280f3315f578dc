"""The KL autoencoder between pixels and latents (Rombach et al. 2022, arXiv 2112.10752, f = 8, 4 channels)."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.attention import attention
from kinescribe.ops.convolution import PointwiseConv, convolve
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.parts import Parts, Stream, summed, whole
from kinescribe.ops.upsample import UpsampleConv


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of an autoencoder; each multiplier after the first halves the resolution.

    ``scale`` brings latents to about unit variance: the diffusion model sees ``scale * latent``.
    """

    in_channels: int
    latent_channels: int
    width: int
    multipliers: tuple[int, ...]
    blocks_per_level: int
    groups: int
    scale: float

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.width * m for m in self.multipliers)

    @property
    def factor(self) -> int:
        """Pixels along the side of one latent."""
        return int(2 ** (len(self.multipliers) - 1))


@dataclass(frozen=True)
class DiagonalGaussian:
    """A posterior over latents, ``n c h w``, unscaled."""

    mean: Float[Tensor, "n c h w"]
    std: Float[Tensor, "n c h w"]

    def sample(self, noise: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The latent that standard normal ``noise`` picks."""
        return self.mean + self.std * noise


class ResidualBlock(nn.Module):
    """Two convolutions on one picture, added to the input."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, c_in, eps=1e-6, silu=True)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = GroupNorm(groups, c_out, eps=1e-6, silu=True)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Identity() if c_in == c_out else PointwiseConv(c_in, c_out)

    def forward(self, x: Float[Tensor, "n c h w"] | Parts) -> Stream:
        """``c_out`` channels: ``n o h w``."""
        x, y = self.norm1.reading(x)
        y, waiting = convolve(y, self.conv1)
        y, waiting = convolve(self.norm2(y, waiting), self.conv2)
        return summed(self.shortcut(x), y, waiting)


class PixelAttention(nn.Module):
    """One head over all pixels of a picture, added to the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Float[Tensor, "n c h w"] | Parts) -> Float[Tensor, "n c h w"]:
        """Same shape."""
        x, normed = self.norm.reading(x)
        tokens = rearrange(normed, "n c h w -> n (h w) c")
        y = self.out(attention(self.q(tokens), self.k(tokens), self.v(tokens), 1))
        return x + rearrange(y, "n (h w) c -> n c h w", h=x.shape[2])


class Downsample(nn.Module):
    """Halve both sides; zeros are padded right and below only, as the published weights expect."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "n c h w"] | Parts) -> Float[Tensor, "n c h2 w2"]:
        """``h / 2`` by ``w / 2``."""
        return self.conv(F.pad(whole(x), (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double both sides: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = UpsampleConv(channels)

    def forward(self, x: Float[Tensor, "n c h w"] | Parts) -> Float[Tensor, "n c h2 w2"]:
        """``2 h`` by ``2 w``."""
        return self.conv.enlarged(whole(x))


def middle(channels: int, groups: int) -> nn.Sequential:
    """Residual block, attention, residual block at the coarsest resolution."""
    return nn.Sequential(
        ResidualBlock(channels, channels, groups),
        PixelAttention(channels, groups),
        ResidualBlock(channels, channels, groups),
    )


def level(c_in: int, c_out: int, blocks: int, groups: int, resample: nn.Module | None) -> nn.Sequential:
    """``blocks`` residual blocks at one resolution and, last, the way to the next one."""
    inside = [ResidualBlock(c_in if i == 0 else c_out, c_out, groups) for i in range(blocks)]
    return nn.Sequential(*inside, *([] if resample is None else [resample]))


class Encoder(nn.Module):
    """Pixels to the parameters of the posterior."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, n = config.channels, config.blocks_per_level
        self.stem = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.levels = nn.Sequential()
        for i, c in enumerate(channels):
            resample = Downsample(c) if i < len(channels) - 1 else None
            self.levels.append(level(channels[max(i - 1, 0)], c, n, config.groups, resample))
        self.middle = middle(channels[-1], config.groups)
        self.norm = GroupNorm(config.groups, channels[-1], eps=1e-6, silu=True)
        self.head = nn.Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n m h2 w2"]:
        """Twice the latent channels: means, then logarithms of variances."""
        _, normed = self.norm.reading(self.middle(self.levels(self.stem(x))))
        return self.head(normed)


class Decoder(nn.Module):
    """Latents to pixels; levels are numbered in the order in which they run, coarsest first."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, n = config.channels[::-1], config.blocks_per_level + 1
        self.stem = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.middle = middle(channels[0], config.groups)
        self.levels = nn.Sequential()
        for i, c in enumerate(channels):
            resample = Upsample(c) if i < len(channels) - 1 else None
            self.levels.append(level(channels[max(i - 1, 0)], c, n, config.groups, resample))
        self.norm = GroupNorm(config.groups, channels[-1], eps=1e-6, silu=True)
        self.head = nn.Conv2d(channels[-1], config.in_channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """Pixels, about [-1, 1], not clamped."""
        _, normed = self.norm.reading(self.levels(self.middle(self.stem(z))))
        return self.head(normed)


class AutoencoderKL(nn.Module):
    """Encoder and decoder with a 1 x 1 convolution on either side of the latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantise = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.unquantise = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> DiagonalGaussian:
        """Posterior of pictures in [-1, 1]; sides must be multiples of ``config.factor``."""
        images = images.contiguous(memory_format=torch.channels_last)
        mean, log_variance = self.quantise(self.encoder(images)).chunk(2, 1)
        return DiagonalGaussian(mean, torch.exp(0.5 * log_variance.clamp(-30, 20)))

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """Pictures, about [-1, 1], from unscaled latents."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.decoder(self.unquantise(latents))
