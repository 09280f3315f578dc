"""The layer that CLIP's text tower and image tower are made of (Radford et al. 2021, arXiv 2103.00020)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.attention import attention


class TowerLayer(nn.Module):
    """Self-attention and a two-layer perceptron with an exact GELU, each on the normalised stream and added back."""

    def __init__(self, width: int, heads: int, mlp_width: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Same shape; where ``causal``, token i sees tokens 0..i."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(attention(q, k, v, self.heads, causal=self.causal))
        return x + self.down(F.gelu(self.up(self.norm2(x))))
