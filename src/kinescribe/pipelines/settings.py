"""A request and a model's own defaults, resolved once; everything behind sees only resolved values."""

import secrets
from dataclasses import dataclass
from typing import TypeVar

from kinescribe.catalog import ModelSpec
from kinescribe.errors import OptionError
from kinescribe.options import TextToVideo

T = TypeVar("T")

DRAWN_SEEDS = 2**32
"""Seeds that nobody chose are below this, short enough to type again."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What will be made: sizes in pixels, ``None`` only where a sampler keeps its own habit."""

    prompt: str
    negative_prompt: str
    frames: int
    width: int
    height: int
    fps: float
    steps: int
    guidance: float
    guidance_rescale: float
    eta: float | None
    sampler: str
    spacing: str | None
    seed: int

    def request(self) -> TextToVideo:
        """The same as a request, for the recipe: made again from it, every frame comes out equal."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return TextToVideo(**fields, unconditional=not self.prompt.strip())


def resolve(request: TextToVideo, spec: ModelSpec) -> Settings:
    """Fill what the request leaves open from ``spec.defaults``; one side alone keeps the model's aspect.

    Raises ``OptionError`` for a size off the model's grid.
    """
    defaults = spec.defaults
    width, height = _size(request, spec)
    for name, side in (("width", width), ("height", height)):
        if side % spec.grid:
            low = max(side // spec.grid, 1) * spec.grid
            raise OptionError(
                f"{name}={side}: {spec.name} takes multiples of {spec.grid}: use {low} or {low + spec.grid}"
            )
    return Settings(
        prompt=request.prompt,
        negative_prompt=_either(request.negative_prompt, defaults.negative_prompt),
        frames=_either(request.frames, defaults.frames),
        width=width,
        height=height,
        fps=_either(request.fps, defaults.fps),
        steps=_either(request.steps, defaults.steps),
        guidance=_either(request.guidance, defaults.guidance),
        guidance_rescale=_either(request.guidance_rescale, 0.0),
        eta=request.eta,
        sampler=_either(request.sampler, defaults.sampler),
        spacing=request.spacing,
        seed=secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed,
    )


def _size(request: TextToVideo, spec: ModelSpec) -> tuple[int, int]:
    """Width and height; a missing one follows from the other and the model's aspect, on its grid."""
    w, h = spec.defaults.width, spec.defaults.height
    if request.width is None and request.height is None:
        return w, h
    if request.width is None and request.height is not None:
        return _on_grid(request.height * w / h, spec.grid), request.height
    if request.height is None and request.width is not None:
        return request.width, _on_grid(request.width * h / w, spec.grid)
    return request.width or w, request.height or h


def _on_grid(side: float, grid: int) -> int:
    return max(round(side / grid), 1) * grid


def _either(asked: T | None, default: T) -> T:
    return default if asked is None else asked
