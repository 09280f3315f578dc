"""Group normalisation with an optional SiLU behind it, kept in channels-last memory."""

import torch
from einops import rearrange
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from kinescribe.ops.parts import Parts, first
from kinescribe.ops.select import kernels_serve

FEW_PIXELS = 1024
"""Below so many pixels the library's CPU kernel for half precision goes a slow way through channels-last memory: it
gets a copy that is not, and the result is copied back."""


def group_norm_reference(
    x: Float[Tensor, "b c h w"], groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool
) -> Float[Tensor, "b c h w"]:
    """Zero mean and unit variance in each of ``groups`` slices of the channels, then scale and shift."""
    grouped = rearrange(x, "b (g c) h w -> b g (c h w)", g=groups)
    variance, mean = torch.var_mean(grouped, -1, keepdim=True, correction=0)
    out = ((grouped - mean) * (variance + eps).rsqrt()).view(x.shape)
    out = out * weight[:, None, None] + bias[:, None, None]
    return F.silu(out) if silu else out


def group_norm_by_channel(
    x: Float[Tensor, "b c h w"], groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool
) -> Float[Tensor, "b c h w"]:
    """:func:`group_norm_reference` in two passes that respect channels-last memory and keep the dtype of ``x``.

    Sums of each channel in float32, joined within a group, become one scale and one shift a channel.
    """
    wide = x.float()
    count = x.shape[1] // groups
    mean = wide.mean((2, 3)).view(-1, groups, count).mean(2, keepdim=True)
    square = wide.square().mean((2, 3)).view(-1, groups, count).mean(2, keepdim=True)
    inverse = (square - mean.square()).clamp(min=0).add(eps).rsqrt()
    scale = weight.float() * inverse.expand(-1, -1, count).flatten(1)
    shift = bias.float() - mean.expand(-1, -1, count).flatten(1) * scale
    out = wide * scale[:, :, None, None] + shift[:, :, None, None]
    return (F.silu(out) if silu else out).to(x.dtype)


def group_norm(
    x: Float[Tensor, "b c h w"],
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    silu: bool,
    shift: Float[Tensor, "a c"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """:func:`group_norm_reference`, fast; the result lies channels-last.

    ``shift`` is added to ``x`` first, each row of it to ``b // a`` pictures in turn. The library's CUDA kernel copies
    to and from the other layout, so compiled training takes the form that a compiler can fuse.
    """
    if kernels_serve(x, weight, bias, shift):
        from kinescribe.ops.group_norm_triton import group_norm_op

        return group_norm_op(x, shift, weight, bias, groups, eps, silu)
    if shift is not None:
        x = x + shift.repeat_interleave(len(x) // len(shift), 0)[:, :, None, None]
    if torch.compiler.is_compiling():
        return group_norm_by_channel(x, groups, weight, bias, eps, silu=silu)
    if x.device.type == "cpu":
        x = _as_the_library_likes(x)
    # a frame of one pixel may leave one number to a group, which the function of ``torch.nn`` refuses
    out = torch.group_norm(x, groups, weight, bias, eps)
    if silu:
        out = F.silu(out, inplace=not out.requires_grad)
    # The CUDA kernel returns contiguous memory whatever it was given, which would undo the layout.
    return out.contiguous(memory_format=torch.channels_last)


def _as_the_library_likes(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """``x`` in memory that the library's CPU kernel is fast with."""
    if x.dtype != torch.float32 and x.shape[-2] * x.shape[-1] < FEW_PIXELS:
        return x.contiguous()
    if len(x) == 1:  # a step to the next of one means nothing, but the library tells the layout by it
        return x.as_strided(x.shape, (x.numel(), *x.stride()[1:]))
    return x


class GroupNorm(nn.Module):
    """Group normalisation of ``b c h w``, with SiLU when ``silu``.

    Pictures as ``(b f) c h w`` are normalised one by one, clips as ``b c f (h w)`` over all their frames.
    """

    def __init__(self, groups: int, channels: int, *, eps: float, silu: bool = False) -> None:
        super().__init__()
        self.groups, self.eps, self.silu = groups, eps, silu
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "b c h w"], shift: Float[Tensor, "a c"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Normalise ``x``, with ``shift`` added as in :func:`group_norm`; same shape, channels-last."""
        return group_norm(x, self.groups, self.weight, self.bias, self.eps, silu=self.silu, shift=shift)

    def reading(
        self,
        x: Float[Tensor, "b c h w"] | Parts,
        shift: Float[Tensor, "a c"] | None = None,
        *,
        laid: int = 0,
        scale: Float32[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, "b c h w"], Shaped[Tensor, "b ..."]]:
        """The whole of ``x``, which may be in parts until here, and its norm with ``shift``.

        Where kernels serve, of clips the norm can be ``laid`` as the windows that ``ops.temporal`` tells of, or else be
        in 8 bits, over ``scale``.
        """
        if isinstance(x, Parts) and not kernels_serve(first(x), self.weight, self.bias, shift):
            x = x.whole()  # the norm itself may be trained
        if not isinstance(x, Parts) and laid == 0 and scale is None:
            return x, self(x, shift)
        from kinescribe.ops.group_norm_triton import group_norm_of_parts_op, group_norm_op

        rest = shift, self.weight, self.bias, self.groups, self.eps, self.silu, laid, scale
        if not isinstance(x, Parts):
            return x, group_norm_op(x, *rest)
        one, other = x.take()
        return group_norm_of_parts_op(one, other, x.waiting, x.ahead, x.beside, *rest)
