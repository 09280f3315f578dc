"""Pictures and clips to what a model is told of them: embeddings and latents."""

from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinescribe.components import Components
from kinescribe.media.crop import autoencoder_pixels, clip_pixels
from kinescribe.media.fit import Fit, fit_frames
from kinescribe.media.frames import Frames
from kinescribe.models.vae import AutoencoderKL
from kinescribe.ops.resize import squashed
from kinescribe.pipelines.stages import few_at_a_time, finite

Image = UInt8[np.ndarray, "h w 3"]


def shaped(picture: Image, width: int, height: int, how: Fit) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture ready for a crop to ``width`` x ``height``: as it is, or padded or stretched to that already."""
    return picture if how == "crop" else fit_frames(picture[None], width, height, how)[0]


def embed_picture(
    components: Components, picture: Image, side: int, how: Fit, *, strict: bool
) -> Float[Tensor, "1 1 e"]:
    """What the image tower makes of the middle square of ``side`` pixels, in the tower's dtype."""
    vision = components.vision
    assert vision is not None
    weights = vision.patches.weight
    pixels = clip_pixels(
        shaped(picture, side, side, how), crop=(side, side), side=vision.config.size, strict=strict
    )
    return vision(torch.from_numpy(pixels)[None].to(weights))[:, None]


def encode_picture(
    components: Components,
    picture: Image,
    size: tuple[int, int],
    how: Fit,
    noise: Float[Tensor, "1 c y x"] | None,
    *,
    strict: bool,
) -> Float[Tensor, "1 c y x"]:
    """Scaled latents, float32, of the picture at ``size`` (width, height), picked by ``noise`` as in ``encode``."""
    pixels = autoencoder_pixels(shaped(picture, *size, how), *size, strict=strict)
    return encode(components.vae, lambda _: torch.from_numpy(pixels)[None], 1, size, noise)


def encode(
    vae: AutoencoderKL,
    pixels: Callable[[slice], Tensor],
    count: int,
    size: tuple[int, int],
    noise: Float[Tensor, "count c y x"] | None,
) -> Float[Tensor, "count c y x"]:
    """Scaled latents in float32 of ``count`` frames of ``size`` (width, height), which ``pixels`` gives by slice.

    ``noise`` picks them from the posterior; None takes its mean. A few frames at a time, one by one from the moment
    that memory runs out; raises ``NumbersError`` for what is not finite in float32 either.
    """
    device = vae.quantise.weight.device

    def latents(part: slice) -> Tensor:
        eps = None if noise is None else noise[part]

        def pick(images: Tensor) -> Tensor:
            posterior = vae.encode(images)
            return (posterior.mean if eps is None else posterior.sample(eps.to(images.dtype))).float()

        return finite(vae, pick, pixels(part).to(device), "encoding")

    return vae.config.scale * torch.cat(list(few_at_a_time(latents, count, size[0] * size[1], "encoding")))


def frame_pixels(
    frames: Frames, width: int, height: int, how: Fit, *, strict: bool
) -> Float[Tensor, "f 3 height width"]:
    """Frames at ``width`` x ``height`` from -1 to 1; ``strict`` resizes as the second stage's reference does."""
    if how == "stretch":
        return squashed(torch.from_numpy(np.ascontiguousarray(frames)), width, height, strict=strict)
    fitted = torch.from_numpy(np.ascontiguousarray(fit_frames(frames, width, height, how)))
    return rearrange(fitted, "f h w c -> f c h w").float() / 127.5 - 1


def mirrored(images: Float[Tensor, "f 3 h w"], width: int, height: int) -> Float[Tensor, "f 3 height width"]:
    """The images with their borders mirrored outwards, evenly on either side, to ``width`` x ``height``."""
    rows, columns = (_mirrored(old, new) for old, new in zip(images.shape[2:], (height, width), strict=True))
    return images[:, :, rows][:, :, :, columns]


def middle_of(frames: Frames, width: int, height: int) -> UInt8[np.ndarray, "f height width 3"]:
    """What :func:`mirrored` put its borders around."""
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]


def _mirrored(old: int, new: int) -> Tensor:
    before = (new - old) // 2
    return torch.from_numpy(np.pad(np.arange(old), (before, new - old - before), mode="reflect"))
