"""The random numbers of a clip that is made from another one: every frame has its own, by its place and the seed."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinescribe.diffusion.brownian import BrownianNoise
from kinescribe.diffusion.noise import Noise, frame_seeds
from kinescribe.diffusion.samplers import StepNoise
from kinescribe.diffusion.trajectory import Trajectory
from kinescribe.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class GivenNoise:
    """Numbers handed over instead of drawn from the seed; what is None is drawn.

    ``initial`` is what a clip starts from, offset and all; ``posterior`` picks the latents of the picture, or of
    each frame, from what the autoencoder gives; ``entropy`` grows the Brownian path of a refinement.
    """

    initial: Float[Tensor, "1 c f h w"] | None = None
    posterior: Float[Tensor, "n c h w"] | None = None
    entropy: int | None = None


def as_given(
    noise: Tensor | GivenNoise | None, shape: tuple[int, int, int, int], pictures: int
) -> GivenNoise:
    """``noise`` as a user may hand it over, where a clip's latents have ``shape`` and ``pictures`` are encoded.

    Raises ``OptionError`` for another shape or numbers that are not finite, ``TypeError`` for another type.
    """
    given = noise if isinstance(noise, GivenNoise) else GivenNoise(initial=noise)
    if given.initial is not None:
        require_noise(given.initial, (1, *shape))
    if given.posterior is not None:
        c, _, h, w = shape
        require_noise(given.posterior, (pictures, c, h, w))
    return given


def require_noise(noise: object, expected: tuple[int, ...]) -> None:
    """Raise what is wrong with noise that a user handed over."""
    if not isinstance(noise, Tensor):
        raise TypeError(f"noise must be a torch tensor, not {type(noise).__name__}: use torch.as_tensor")
    if tuple(noise.shape) != expected:
        raise OptionError(f"noise has shape {tuple(noise.shape)}: this request needs {expected}")
    if not (noise.is_floating_point() and bool(noise.isfinite().all())):
        raise OptionError(f"noise ({noise.dtype}) must be floating-point numbers, all of them finite")


class FrameDraws:
    """The draws of one clip, frame by frame: neither its length nor a window changes a frame's numbers.

    Call ``posterior``, ``initial`` and ``brownian`` or ``step``, in that order, each where it is needed.
    """

    def __init__(
        self, seed: int, shape: tuple[int, int, int, int], given: GivenNoise, *, device: torch.device
    ) -> None:
        c, frames, h, w = shape
        self._noise = Noise(frame_seeds(seed, frames), (c, 1, h, w), device=device)
        self._shape, self._given, self._device = shape, given, device

    def posterior(self, *, sampled: bool) -> Float[Tensor, "f c h w"] | None:
        """What to pick each frame's latents with; None for their mean, where they are not ``sampled``."""
        if self._given.posterior is not None:
            return self._given.posterior.to(self._device, torch.float32)
        return self._noise.posterior(1)[:, 0] if sampled else None

    def initial(self) -> Float[Tensor, "1 c f h w"]:
        """Unit noise."""
        if self._given.initial is not None:
            return self._given.initial.to(self._device, torch.float32)
        return _clip(self._noise.initial())

    def step(self, index: int) -> Float[Tensor, "1 c f h w"]:
        """Fresh unit noise for step ``index``, see ``Noise.step``."""
        return _clip(self._noise.step(index))

    def brownian(self, path: Trajectory) -> StepNoise:
        """Unit noise for the steps of ``path`` from one Brownian path per frame, or per clip if that is given."""
        c, _, h, w = self._shape
        if self._given.entropy is not None:
            return BrownianNoise([self._given.entropy], self._shape, path, device=self._device).step
        walks = BrownianNoise(self._noise.entropy(), (c, 1, h, w), path, device=self._device)
        return lambda index: _clip(walks.step(index))


def _clip(frames: Float[Tensor, "f c 1 h w"]) -> Float[Tensor, "1 c f h w"]:
    return rearrange(frames, "f c 1 h w -> 1 c f h w")
