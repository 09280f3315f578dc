"""A request and a model's own defaults, resolved once; everything behind sees only resolved values."""

import secrets
from dataclasses import dataclass
from typing import TypeVar

from kinescribe.catalog import ModelSpec
from kinescribe.errors import OptionError
from kinescribe.media.fit import Fit
from kinescribe.options import (
    LARGEST_SIDE,
    ImageToVideo,
    Preset,
    Request,
    TextToVideo,
    VideoToVideo,
    require_overlap,
)

T = TypeVar("T")

DRAWN_SEEDS = 2**32
"""Seeds that nobody chose are below this, short enough to type again."""

STRENGTH = 0.6
"""How much of a clip a text-to-video model makes anew unless told; what diffusers takes too."""

SHARED = 4
"""A window shares one frame of so many with the next one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What will be made, whatever the task: sizes in pixels, ``None`` only where a sampler keeps its own habit."""

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
    preset: Preset | None
    seed: int

    def fields(self) -> dict[str, object]:
        """All of them by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def request(self) -> TextToVideo:
        """The same as a request, for the recipe: made again from it, every frame comes out equal."""
        return TextToVideo(**self.fields(), unconditional=not self.prompt.strip())  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """What will be made of a picture: ``condition_fps`` is what the model is told."""

    making: Settings
    condition_fps: int
    fit: Fit

    def request(self) -> ImageToVideo:
        """The same as a request."""
        return ImageToVideo(**self.making.fields(), condition_fps=self.condition_fps, fit=self.fit)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What will be made of a clip: ``window`` frames in one pass, ``overlap`` of them shared with the next."""

    making: Settings
    strength: float
    fit: Fit
    window: int
    overlap: int

    def request(self) -> VideoToVideo:
        """The same as a request."""
        fields = self.making.fields()
        del fields["frames"]  # the clip has as many as it has
        return VideoToVideo(
            **fields,  # type: ignore[arg-type]
            strength=self.strength,
            fit=self.fit,
            window=self.window,
            overlap=self.overlap,
        )


AnySettings = Settings | PictureSettings | ClipSettings


def resolve(request: TextToVideo, spec: ModelSpec) -> Settings:
    """Fill what the request leaves open from ``spec.defaults``; one side alone keeps the model's aspect.

    Raises ``OptionError`` for a size off the model's grid.
    """
    return _making(request, spec, request.frames, _on_models_grid(request, spec))


def resolve_picture(request: ImageToVideo, spec: ModelSpec) -> PictureSettings:
    """As :func:`resolve`, for an image-to-video model. Raises ``OptionError`` for a prompt that it cannot read."""
    assert spec.picture is not None
    for name in ("prompt", "negative_prompt"):
        if getattr(request, name) and not spec.picture.takes_text:
            raise OptionError(f"{spec.name} reads no text: leave the {name} out, the picture alone decides")
    return PictureSettings(
        making=_making(request, spec, request.frames, _on_models_grid(request, spec)),
        condition_fps=_either(request.condition_fps, spec.picture.condition_fps),
        fit=request.fit,
    )


def resolve_clip(
    request: VideoToVideo, spec: ModelSpec, *, frames: int, size: tuple[int, int], fps: float
) -> ClipSettings:
    """As :func:`resolve`, for a clip of ``frames`` of ``size`` (width, height) at ``fps``, and either kind of model.

    A model that refines clips has its own size, one for text-to-video takes the clip's, rounded to eights.
    Raises ``OptionError`` for an overlap of more than half a window.
    """
    own = size if spec.refinement is None else (spec.defaults.width, spec.defaults.height)
    making = _making(request, spec, frames, _size(request, own, 8), fps=fps)
    window = _either(request.window, min(spec.trained_frames, frames))
    overlap = _either(request.overlap, window // SHARED)
    require_overlap(window, overlap)
    return ClipSettings(
        making=making,
        strength=_either(request.strength, own_strength(spec)),
        fit=request.fit,
        window=window,
        overlap=overlap,
    )


def own_strength(spec: ModelSpec) -> float:
    """How much of a clip a model makes anew unless told: up to its noise level, of 1000 training steps."""
    return STRENGTH if spec.refinement is None else (spec.refinement.noise_level + 1) / 1000


def _making(
    request: Request, spec: ModelSpec, frames: int | None, size: tuple[int, int], *, fps: float | None = None
) -> Settings:
    """``fps`` None is the model's, if the request says none."""
    defaults = spec.defaults
    rescale = 0.0 if spec.refinement is None else spec.refinement.guidance_rescale
    return Settings(
        prompt=request.prompt,
        negative_prompt=_either(request.negative_prompt, defaults.negative_prompt),
        frames=_either(frames, defaults.frames),
        width=size[0],
        height=size[1],
        fps=_either(request.fps, _either(fps, defaults.fps)),
        steps=_either(request.steps, defaults.steps),
        guidance=_either(request.guidance, defaults.guidance),
        guidance_rescale=_either(request.guidance_rescale, rescale),
        eta=request.eta,
        sampler=_either(request.sampler, defaults.sampler),
        spacing=request.spacing,
        preset=None if request.preset == "exact" else request.preset,
        seed=secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed,
    )


def _on_models_grid(request: Request, spec: ModelSpec) -> tuple[int, int]:
    width, height = _size(request, (spec.defaults.width, spec.defaults.height), spec.grid)
    for name, side in (("width", width), ("height", height)):
        if side % spec.grid:
            low = max(side // spec.grid, 1) * spec.grid
            raise OptionError(
                f"{name}={side}: {spec.name} takes multiples of {spec.grid}: use {low} or {low + spec.grid}"
            )
    return width, height


def _size(request: Request, own: tuple[int, int], grid: int) -> tuple[int, int]:
    """Width and height on the grid; what is missing follows from ``own``, one side alone keeps its aspect."""
    w, h = own
    width, height = request.width, request.height
    if width is None:
        width = _on_grid(w if height is None else height * w / h, grid)
    if height is None:
        height = _on_grid(h if request.width is None else width * h / w, grid)
    if max(width, height) > LARGEST_SIDE:
        raise OptionError(
            f"{width}x{height} follows from the size of {w}x{h}, and a side has {LARGEST_SIDE} pixels at most: "
            "give a smaller width and height"
        )
    return width, height


def _on_grid(side: int | float, grid: int) -> int:
    return max(round(side / grid), 1) * grid


def _either(asked: T | None, default: T) -> T:
    return default if asked is None else asked
