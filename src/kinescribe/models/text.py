"""The CLIP text tower (Radford et al. 2021, arXiv 2103.00020) up to the layer that the UNet reads."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.attention import attention


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of a text tower; ``layers`` counts those that run (23 of 24 in ViT-H)."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    context_length: int


class TextLayer(nn.Module):
    """Causal self-attention and a two-layer perceptron with an exact GELU, each added back."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Same shape; token i sees tokens 0..i. Padding is not masked: the weights were trained so."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(attention(q, k, v, self.heads, causal=True))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TextEncoder(nn.Module):
    """Token ids to the features that the UNet attends to: last layer run, then the final normalisation."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.width))
        self.layers = nn.Sequential(*(TextLayer(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """``n`` equals ``context_length``."""
        return self.norm(self.layers(self.tokens(ids) + self.positions))
