"""How sharp edges are, and how near pictures come to the true ones."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

EDGE_SHARE = 0.05
"""So many of a clip's pixels, those of the steepest slopes, count as its edges."""
LUMA = (0.299, 0.587, 0.114)


def slopes(frames: UInt8[Tensor, "f y x 3"]) -> Float[Tensor, "f y x"]:
    """How steeply luminance rises at each pixel, in 8-bit levels a pixel; 0 along the last row and column."""
    luma = (frames.float() * torch.tensor(LUMA, device=frames.device)).sum(3)
    across = F.pad(luma.diff(dim=2), (0, 1))
    down = F.pad(luma.diff(dim=1), (0, 0, 0, 1))
    return (across.square() + down.square()).sqrt()


def edges(frames: UInt8[Tensor, "f y x 3"]) -> Bool[Tensor, "f y x"]:
    """Where the steepest slopes of a clip are."""
    steep = slopes(frames)
    count = max(1, round(EDGE_SHARE * steep.numel()))
    least = steep.flatten().topk(count).values[-1]
    return steep >= least


def edge_sharpness(frames: UInt8[Tensor, "f y x 3"], where: Bool[Tensor, "f y x"]) -> float:
    """The mean over edges of the steepest slope within one pixel of them: an edge drawn a pixel aside loses nothing."""
    steepest = F.max_pool2d(slopes(frames)[:, None], 3, stride=1, padding=1)[:, 0]
    return float(steepest[where].mean())


def likeness(frames: UInt8[Tensor, "*shape"], true: UInt8[Tensor, "*shape"]) -> float:
    """PSNR in dB; 100 for equal ones."""
    error = (frames.float() - true.float()).square().mean().clamp(min=255**2 / 10**10)
    return float(10 * (255**2 / error).log10())
