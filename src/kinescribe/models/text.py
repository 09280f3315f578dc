"""The CLIP text tower (Radford et al. 2021, arXiv 2103.00020) up to the layer that the UNet reads."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinescribe.models.tower import TowerLayer


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of a text tower; ``layers`` counts those that run (23 of 24 in ViT-H)."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    context_length: int


class TextEncoder(nn.Module):
    """Token ids to the features that the UNet attends to: last layer run, then the final normalisation.

    Token i sees tokens 0..i. Padding is not masked: the weights were trained so.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.width))
        self.layers = nn.Sequential(
            *(
                TowerLayer(config.width, config.heads, config.mlp_width, causal=True)
                for _ in range(config.layers)
            )
        )
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """``n`` equals ``context_length``."""
        return self.norm(self.layers(self.tokens(ids) + self.positions))
