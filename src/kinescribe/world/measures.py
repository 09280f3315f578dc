"""What the judge measures in maps without learning: where they lie and how they spread."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

GEOMETRY = 6


def geometry(cover: Float[Tensor, "b f g g"]) -> Float[Tensor, "b f 6"]:
    """Extent, centre (x, y) and second moments (xx, yy, xy) of a positive map, in half frame widths."""
    axis = _axis(cover.shape[-1], cover.device)
    x, y = axis[None, :], axis[:, None]
    weights = cover / cover.sum(dim=(2, 3), keepdim=True)

    def mean(values: Tensor) -> Tensor:
        return (weights * values).sum(dim=(2, 3))

    cx, cy = mean(x), mean(y)
    dx, dy = x - cx[..., None, None], y - cy[..., None, None]
    extent = cover.mean(dim=(2, 3)).sqrt()
    return torch.stack([extent, cx, cy, mean(dx * dx), mean(dy * dy), mean(dx * dy)], 2)


def centres(maps: Float[Tensor, "b f k g g"]) -> Float[Tensor, "b f k 2"]:
    """The centre (x, y) of each map's softmax, in half frame widths."""
    axis = _axis(maps.shape[-1], maps.device)
    share = rearrange(maps, "b f k y x -> b f k (y x)").softmax(3).reshape(maps.shape)
    return torch.stack([(share.sum(3) * axis).sum(3), (share.sum(4) * axis).sum(3)], 3)


def _axis(side: int, device: torch.device) -> Float[Tensor, " side"]:
    return (torch.arange(side, device=device) + 0.5) / side * 2 - 1
