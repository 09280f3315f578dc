"""Models that make a clip from a picture."""

from kinescribe.catalog.papercut import ANIMATE
from kinescribe.catalog.spec import (
    DIFFUSERS_FILES,
    DISTORTED,
    ENGLISH,
    TRAINED_LENGTH,
    Defaults,
    Hub,
    ModelSpec,
    PictureInput,
    PublishedFile,
    Source,
)

_NO_DERIVATIVES = "CC-BY-NC-ND-4.0 (no commercial use, no changed versions)"
STAGE_FILES = ("configuration.json", "open_clip_pytorch_model.bin", "v2-1_512-ema-pruned.ckpt")
"""What both ModelScope stages have beside their UNet."""


def _stage(hub: Hub, name: str) -> Source:
    patterns = ("base_03_alldata_fps_v_80g_0789000.pth", *STAGE_FILES)
    return Source(hub=hub, id=name, layout="modelscope", bytes=14_840_000_000, patterns=patterns)


_IMAGE_TO_VIDEO = ModelSpec(
    name="modelscope-image-to-video",
    kind="image-to-video",
    title="ModelScope Image-to-Video, first stage of two: 32 frames of 448 x 256 after a picture",
    licence=_NO_DERIVATIVES,
    defaults=Defaults(
        frames=32, width=448, height=256, fps=8.0, steps=50, guidance=3.0, sampler="ddim", negative_prompt=""
    ),
    trained_frames=32,
    grid=8,
    noise="scaled-linear-velocity",
    picture=PictureInput(
        first_frame=False,
        takes_text=False,
        condition_fps=8,
        crop=448,
        offset_noise=0.1,
        sampled_latents=False,
    ),
    sources=(
        _stage("huggingface", "ali-vilab/MS-Image2Video"),
        _stage("modelscope", "iic/Image-to-Video"),
    ),
    notes=(
        "takes the meaning of the picture, not its pixels: the first frame is not the picture",
        "reads no prompt: the picture alone decides",
        TRAINED_LENGTH,
    ),
)

_VGEN_FILES = ("i2vgen_xl_00854500.pth", *STAGE_FILES[1:])

_I2VGEN_XL = ModelSpec(
    name="i2vgen-xl",
    kind="image-to-video",
    title="I2VGen-XL: 16 frames of 1280 x 704 that begin with a picture, told what happens by a prompt",
    licence="MIT by its card; its makers ask for research use, no commercial use",
    defaults=Defaults(
        frames=16,
        width=1280,
        height=704,
        fps=8.0,
        steps=50,
        guidance=9.0,
        sampler="ddim",
        negative_prompt=DISTORTED,
    ),
    trained_frames=16,
    grid=8,
    noise="cosine-velocity",
    picture=PictureInput(
        first_frame=True, takes_text=True, condition_fps=16, crop=None, offset_noise=0.0, sampled_latents=True
    ),
    sources=(
        Source(
            hub="huggingface",
            id="ali-vilab/i2vgen-xl",
            layout="diffusers",
            bytes=4_980_000_000,
            patterns=(
                *DIFFUSERS_FILES,
                "feature_extractor/*.json",
                "unet/*.fp16.safetensors",
                "vae/*.fp16.safetensors",
                "text_encoder/*.fp16.safetensors",
                "image_encoder/*.fp16.safetensors",
            ),
        ),
        Source(
            hub="huggingface",
            id="ali-vilab/i2vgen-xl",
            layout="vgen",
            bytes=14_840_000_000,
            patterns=tuple(f"models/{name}" for name in _VGEN_FILES),
            files=(
                PublishedFile(
                    path="models/i2vgen_xl_00854500.pth", bytes=5_682_502_260, sha256="d3921efea21a4aac"
                ),
                PublishedFile(
                    path="models/open_clip_pytorch_model.bin", bytes=3_944_692_325, sha256="9a78ef8e8c73fd0d"
                ),
            ),
        ),
        Source(
            hub="modelscope",
            id="iic/I2VGen-XL",
            layout="vgen",
            bytes=14_840_000_000,
            patterns=_VGEN_FILES,
        ),
    ),
    notes=(
        "VGen adds what it makes of the picture's latents twice, and trained it so; a diffusers folder is run "
        "as diffusers runs it, which adds them once",
        "the published diffusers folder scales latents by 0.18125 where training had 0.18215; kept as it is there",
        ENGLISH,
        TRAINED_LENGTH,
    ),
)

IMAGE_TO_VIDEO = (ANIMATE, _IMAGE_TO_VIDEO, _I2VGEN_XL)
