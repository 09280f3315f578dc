"""What the table of models is made of: plain data, importable without torch."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text-to-video", "image-to-video", "video-to-video"]
Hub = Literal["huggingface", "modelscope"]
Layout = Literal["native", "diffusers", "modelscope", "vgen"]
Noise = Literal["scaled-linear", "scaled-linear-velocity", "cosine-velocity", "interpolated-velocity", "own"]
"""Which diffusion a model was trained for; "own" is written in its own folder (native layout)."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a request's unset fields become for one model; sizes in pixels, fps in frames per second."""

    frames: int
    width: int
    height: int
    fps: float
    steps: int
    guidance: float
    sampler: str
    negative_prompt: str


@dataclass(frozen=True, kw_only=True)
class PictureInput:
    """What an image-to-video model makes of its picture and what else it is told.

    ``first_frame`` says that the picture, cropped to the size of the clip, enters as latents as well and is
    what the clip begins with; else only its meaning counts. ``takes_text`` says whether a prompt is read.
    ``condition_fps`` is the frame rate the model is told, whatever the clip's own. ``crop`` is the side in
    pixels of the middle square of the picture that the image tower is shown; None is the clip's width.
    ``offset_noise`` is the share of noise that is equal in all of a frame. ``sampled_latents`` says that the
    picture's latents are drawn from what the autoencoder gives, not its mean.
    """

    first_frame: bool
    takes_text: bool
    condition_fps: int
    crop: int | None
    offset_noise: float
    sampled_latents: bool


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """How a video-to-video model starts from a clip, and what it adds to a request.

    ``noise_level`` is the training step up to which the clip's latents are made noisy: by fresh noise, or,
    where ``inversion`` names a diffusion, by running its deterministic solver backwards. ``positive_prompt``
    is put behind every prompt. ``filtered_skips`` says that the two deepest joints of the decoder are filtered
    (FreeU's way). ``slow_sampler`` and ``slow_steps`` are the other published choice of a solver, if any.
    ``sampled_latents`` says that the clip's latents are drawn from what the autoencoder gives, not its mean.
    ``consistent_start`` says that the noisy clip is what the first step sees; the published models see it scaled
    once more (``sdedit.second_stage``).
    """

    noise_level: int
    inversion: Literal["cosine"] | None
    positive_prompt: str
    guidance_rescale: float
    filtered_skips: bool
    slow_sampler: str | None
    slow_steps: int | None
    sampled_latents: bool
    consistent_start: bool = False


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a published folder: path inside it, size in bytes, first 16 hex digits of its sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place a model is published at.

    ``patterns`` are the files worth fetching, ``bytes`` their rounded sum, ``files`` those whose sums are known.
    """

    hub: Hub
    id: str
    layout: Layout
    bytes: int
    patterns: tuple[str, ...]
    files: tuple[PublishedFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model: what it does, what it was trained for, where it comes from, what is known to be wrong with it.

    ``grid`` is the step of legal widths and heights in pixels; heights are ``row_remainder`` above a multiple
    of it. ``noise`` names the diffusion of layouts that do not write it down. ``embedded`` models lie inside
    the package. ``picture`` is there for image-to-video, ``refinement`` for video-to-video.
    """

    name: str
    kind: Kind
    title: str
    licence: str
    defaults: Defaults
    trained_frames: int
    grid: int
    noise: Noise
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    embedded: bool = False
    row_remainder: int = 0
    picture: PictureInput | None = None
    refinement: Refinement | None = None

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Published ids as ``hub:owner/name``, in order of preference."""
        return tuple(f"{source.hub}:{source.id}" for source in self.sources)

    @property
    def bytes(self) -> int | None:
        """Size of the first published source in bytes, or None where there is none."""
        return self.sources[0].bytes if self.sources else None


RESEARCH = "CC-BY-NC-4.0 (research, no commercial use)"
ENGLISH = "understands English prompts only"
TRAINED_LENGTH = "quality falls below the trained frame count or picture size"
DISTORTED = (
    "Distorted, discontinuous, Ugly, blurry, low resolution, motionless, static, disfigured, "
    "disconnected limbs, Ugly faces, incomplete arms"
)
"""The negative prompt that VGen publishes for its text-to-video and image-to-video models."""
DIFFUSERS_FILES = ("model_index.json", "scheduler/*.json", "tokenizer/*", "*/config.json")
