"""Models that refine a clip: a larger size, more detail, the same motion."""

from kinescribe.catalog.image_to_video import STAGE_FILES
from kinescribe.catalog.papercut import REFINE
from kinescribe.catalog.spec import ENGLISH, Defaults, Hub, ModelSpec, Refinement, Source

# Both prompts are part of the published results, misprints included.
_NEGATIVE = (
    "worst quality, normal quality, low quality, low res, blurry, text, watermark, logo, banner, extra digits, "
    "cropped, jpeg artifacts, signature, username, error, sketch ,duplicate, ugly, monochrome, horror, geometry, "
    "mutation, disgusting"
)
_POSITIVE = (
    ", cinematic, High Contrast, highly detailed, unreal engine, taken using a Canon EOS R camera, hyper detailed "
    "photo - realistic maximum detail, 32k, Color Grading, ultra HD, extreme meticulous detailing, skin pore "
    "detailing, hyper sharpness, perfect without deformations, Unreal Engine 5, 4k render"
)
_POSITIVE_SR600 = (
    ", cinematic, High Contrast, highly detailed, Unreal Engine 5, no blur, full length ultra-wide angle shot a "
    "cinematic scene, taken using a Canon EOS R camera, hyper detailed photo - realistic maximum detail, 32k, "
    "Color Grading, portrait Photography, ultra HD, extreme meticulous detailing, skin pore detailing, hyper "
    "sharpness, perfect without deformations, 4k render"
)
_APPENDED = (
    "adds some 64 tokens of its own behind every prompt: of one longer than 11 tokens their end is cut off"
)
_HEAVY = "heavy: 32 frames of 1280 x 720 want a large GPU"


def _defaults(guidance: float) -> Defaults:
    return Defaults(
        frames=32,
        width=1280,
        height=720,
        fps=8.0,
        steps=30,
        guidance=guidance,
        sampler="dpmpp_2m_sde",
        negative_prompt=_NEGATIVE,
    )


def _stage(hub: Hub, name: str) -> Source:
    patterns = ("non_ema_0035000.pth", *STAGE_FILES)
    return Source(hub=hub, id=name, layout="modelscope", bytes=14_800_000_000, patterns=patterns)


_VIDEO_TO_VIDEO = ModelSpec(
    name="modelscope-video-to-video",
    kind="video-to-video",
    title="ModelScope Video-to-Video, second stage of two: refines 32 frames to 1280 x 720",
    licence="CC-BY-NC-ND-4.0 (no commercial use, no changed versions)",
    defaults=_defaults(7.5),
    trained_frames=32,
    grid=64,
    row_remainder=16,
    noise="interpolated-velocity",
    refinement=Refinement(
        noise_level=599,
        inversion=None,
        positive_prompt=_POSITIVE,
        guidance_rescale=0.2,
        filtered_skips=False,
        slow_sampler="heun",
        slow_steps=50,
        sampled_latents=True,
    ),
    sources=(
        _stage("huggingface", "ali-vilab/MS-Vid2Vid-XL"),
        _stage("modelscope", "iic/Video-to-Video"),
    ),
    notes=(_APPENDED, _HEAVY, ENGLISH),
)

_SR600 = ModelSpec(
    name="vgen-sr600",
    kind="video-to-video",
    title="VGen SR600: refines 32 frames to 1280 x 720 from noise that keeps the clip",
    licence="unstated for the file; VGen asks for research use, no commercial use",
    defaults=_defaults(9.0),
    trained_frames=32,
    grid=64,
    row_remainder=16,
    noise="interpolated-velocity",
    refinement=Refinement(
        noise_level=699,
        inversion="cosine",
        positive_prompt=_POSITIVE_SR600,
        guidance_rescale=0.3,
        filtered_skips=True,
        slow_sampler=None,
        slow_steps=None,
        sampled_latents=True,
    ),
    notes=(
        "a bare sr_step_110000_ema.pth of 1480 tensors: its VAE and text tower come from another folder",
        "adds 78 tokens of its own behind every prompt, the end of which is always cut off",
        _HEAVY,
        ENGLISH,
    ),
)

VIDEO_TO_VIDEO = (REFINE, _VIDEO_TO_VIDEO, _SR600)
