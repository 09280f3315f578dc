"""What VGen's SR600 does to the deepest joints of its decoder, after FreeU (Si et al. 2023, arXiv 2309.11497)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class JointScales:
    """Factors at one joint: of the first half of the backbone's channels, of the skip's lowest frequencies."""

    backbone: float
    skip: float


SR600 = (JointScales(backbone=1.1, skip=0.6), JointScales(backbone=1.2, skip=0.4))
"""VGen's second stage: what happens to the first and to the second block of the decoder."""


@dataclass(frozen=True)
class FourierSkipFilter:
    """A ``SkipFilter``: strengthen what comes from below, weaken the coarse structure that the skip brings.

    Entry i of ``scales`` belongs to block i of the decoder; later blocks are left as they are.
    """

    scales: tuple[JointScales, ...]

    def __call__(
        self, block: int, x: Float[Tensor, "b c f h w"], skip: Float[Tensor, "b d f h w"]
    ) -> tuple[Float[Tensor, "b c f h w"], Float[Tensor, "b d f h w"]]:
        """Both in the shape and dtype in which they came; every frame is filtered by itself."""
        if block >= len(self.scales):
            return x, skip
        scales, half = self.scales[block], x.shape[1] // 2
        strong = torch.cat([x[:, :half] * scales.backbone, x[:, half:]], 1)
        return strong, scale_lowest(skip, scales.skip)


def scale_lowest(x: Float[Tensor, "b c f h w"], scale: float) -> Float[Tensor, "b c f h w"]:
    """Every frame with its lowest frequencies times ``scale``, computed in float32.

    The same as multiplying frequencies -1 and 0 of either axis in a Fourier transform, transforming back and
    keeping the real part. As that concerns a handful of waves, it is done without a transform: no complex
    numbers, which compilers and some devices lack, and no restriction on sizes in half precision.
    """
    h, w = x.shape[-2:]
    waves = lowest_waves(h, w, x.device)
    shares = torch.einsum("bcfhw,nhw->bcfn", x.float(), waves) / (h * w)
    lowest = torch.einsum("bcfn,nhw->bcfhw", shares, waves)
    return (x - (1.0 - scale) * lowest).to(x.dtype)


def lowest_waves(h: int, w: int, device: torch.device) -> Float[Tensor, "n h w"]:
    """Cosines and sines of frequencies -1 and 0 along rows and columns; -1 is left out where a side is one long."""
    y = torch.arange(h, dtype=torch.float32, device=device)[:, None] / h
    x = torch.arange(w, dtype=torch.float32, device=device) / w
    angles = [2 * math.pi * (i * y + j * x) for i in range(min(h, 2)) for j in range(min(w, 2))]
    return torch.cat([torch.stack(angles).cos(), torch.stack(angles).sin()])
