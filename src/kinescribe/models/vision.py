"""The CLIP image tower (Radford et al. 2021, arXiv 2103.00020): a vision transformer and its projection."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinescribe.models.tower import TowerLayer


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Sizes of an image tower; ``size`` is the side of its pictures and ``patch`` that of a patch, in pixels."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    patch: int
    size: int
    embedding_width: int


class VisionEncoder(nn.Module):
    """A picture to its embedding: the class token after the last layer, projected and not normalised further."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch, stride=config.patch, bias=False)
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty((config.size // config.patch) ** 2 + 1, width))
        self.norm_before = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            *(TowerLayer(width, config.heads, config.mlp_width, causal=False) for _ in range(config.layers))
        )
        self.norm_after = nn.LayerNorm(width)
        self.project = nn.Linear(width, config.embedding_width, bias=False)
        nn.init.normal_(self.class_token, std=width**-0.5)
        nn.init.normal_(self.positions, std=width**-0.5)

    def forward(self, images: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b d"]:
        """``images`` are ``config.size`` square, in [0, 1], less CLIP's mean colour and over its deviation."""
        patches = self.patches(images).flatten(2).mT
        first = self.class_token.expand(len(images), 1, -1)
        x = self.norm_before(torch.cat([first, patches], 1) + self.positions)
        return self.project(self.norm_after(self.layers(x)[:, 0]))
