"""Group normalisation with an optional SiLU behind it, kept in channels-last memory."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def group_norm_reference(
    x: Float[Tensor, "b c h w"], groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool
) -> Float[Tensor, "b c h w"]:
    """Zero mean and unit variance in each of ``groups`` slices of the channels, then scale and shift."""
    grouped = rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)
    variance, mean = torch.var_mean(grouped, -1, keepdim=True, correction=0)
    out = ((grouped - mean) * (variance + eps).rsqrt()).view(x.shape)
    out = out * weight[:, None, None] + bias[:, None, None]
    return F.silu(out) if silu else out


def group_norm(
    x: Float[Tensor, "b c h w"], groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool
) -> Float[Tensor, "b c h w"]:
    """:func:`group_norm_reference` through the library's kernel; the result lies channels-last."""
    out = F.group_norm(x, groups, weight, bias, eps)
    if silu:
        out = F.silu(out, inplace=not out.requires_grad)
    # The CUDA kernel returns contiguous memory whatever it was given, which would undo the layout.
    return out.contiguous(memory_format=torch.channels_last)


class GroupNorm(nn.Module):
    """Group normalisation of ``b c h w``, with SiLU when ``silu``.

    Pictures as ``(b f) c h w`` are normalised one by one, clips as ``b c f (h w)`` over all their frames.
    """

    def __init__(self, groups: int, channels: int, *, eps: float, silu: bool = False) -> None:
        super().__init__()
        self.groups, self.eps, self.silu = groups, eps, silu
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise; same shape, channels-last."""
        return group_norm(x, self.groups, self.weight, self.bias, self.eps, silu=self.silu)
