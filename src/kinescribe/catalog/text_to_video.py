"""Models that make a clip from text alone; a new checkpoint of a known architecture is one more row."""

from kinescribe.catalog.papercut import QUICK
from kinescribe.catalog.spec import (
    DIFFUSERS_FILES,
    DISTORTED,
    ENGLISH,
    RESEARCH,
    TRAINED_LENGTH,
    Defaults,
    Hub,
    ModelSpec,
    PublishedFile,
    Source,
)

VGEN_NOTE = "a bare .pth of 1480 tensors: its VAE and text tower come from a ModelScope or diffusers folder"
_STOCK_MARKS = "may reproduce stock-footage marks: its training clips carried them"
_FULL_PRECISION = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)
_BASE_FILES = (
    PublishedFile(path="text_encoder/model.safetensors", bytes=1_361_597_016, sha256="1e4aa519f64dc638"),
    PublishedFile(path="text_encoder/model.fp16.safetensors", bytes=680_821_102, sha256="6ab158327d06ce86"),
    PublishedFile(path="text_encoder/pytorch_model.bin", bytes=1_361_674_657, sha256="2188379b05015f53"),
    PublishedFile(path="text_encoder/pytorch_model.fp16.bin", bytes=680_900_852, sha256="7bb11b1da63986aa"),
    PublishedFile(
        path="unet/diffusion_pytorch_model.safetensors", bytes=5_645_118_394, sha256="1296dbed3928b7ec"
    ),
    PublishedFile(
        path="unet/diffusion_pytorch_model.fp16.safetensors", bytes=2_822_650_226, sha256="f972e78d39735baa"
    ),
    PublishedFile(path="unet/diffusion_pytorch_model.bin", bytes=5_645_561_389, sha256="a6f519b8cca193d6"),
    PublishedFile(
        path="unet/diffusion_pytorch_model.fp16.bin", bytes=2_823_097_059, sha256="f094ebff52035921"
    ),
    PublishedFile(
        path="vae/diffusion_pytorch_model.safetensors", bytes=334_643_276, sha256="a1d993488569e928"
    ),
    PublishedFile(
        path="vae/diffusion_pytorch_model.fp16.safetensors", bytes=167_335_350, sha256="c8b011e5a18c5388"
    ),
    PublishedFile(path="vae/diffusion_pytorch_model.bin", bytes=334_711_857, sha256="36bb8e1b54aba3a0"),
    PublishedFile(path="vae/diffusion_pytorch_model.fp16.bin", bytes=167_405_395, sha256="c13979094c6566d9"),
)


def _defaults(frames: int, width: int, height: int, *, steps: int = 25, guidance: float = 9.0) -> Defaults:
    return Defaults(
        frames=frames,
        width=width,
        height=height,
        fps=8.0,
        steps=steps,
        guidance=guidance,
        sampler="dpmpp_2m",
        negative_prompt="",
    )


def _diffusers(hub_id: str, size: int, *, variant: str = "", weights: tuple[str, ...] = ()) -> Source:
    """A published diffusers folder; without ``weights`` the variant's safetensors, else these patterns."""
    chosen = weights or tuple(
        f"{folder}/*{variant}.safetensors" for folder in ("unet", "vae", "text_encoder")
    )
    return Source(
        hub="huggingface",
        id=hub_id,
        layout="diffusers",
        bytes=size,
        patterns=DIFFUSERS_FILES + chosen,
        files=_BASE_FILES if hub_id == "ali-vilab/text-to-video-ms-1.7b" else (),
    )


def _modelscope(hub: Hub, hub_id: str, size: int) -> Source:
    patterns = (
        "configuration.json",
        "VQGAN_autoencoder.pth",
        "open_clip_pytorch_model.bin",
        "text2video_pytorch_model.pth",
    )
    return Source(hub=hub, id=hub_id, layout="modelscope", bytes=size, patterns=patterns)


def _fine_tune(
    name: str, title: str, hub_id: str, defaults: Defaults, *notes: str, licence: str = RESEARCH
) -> ModelSpec:
    """A fine-tune of the 1.7 B model, published as a diffusers folder of fp16 tensors under plain names."""
    either = tuple(
        pattern
        for folder, stem in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "pytorch_model"),
            ("text_encoder", "model"),
        )
        for pattern in (f"{folder}/{stem}.safetensors", f"{folder}/{stem}.bin")
    )
    return ModelSpec(
        name=name,
        kind="text-to-video",
        title=title,
        licence=licence,
        defaults=defaults,
        trained_frames=defaults.frames,
        grid=8,
        noise="scaled-linear",
        sources=(_diffusers(hub_id, 4_350_000_000, weights=either),),
        notes=(TRAINED_LENGTH, ENGLISH, *notes),
    )


_PAPERCUT = ModelSpec(
    name="papercut",
    kind="text-to-video",
    title="Papercut, small and embedded: paper shapes that move, in any number of steps, with guidance",
    licence="Apache-2.0",
    defaults=_defaults(16, 128, 128, steps=16, guidance=3.0),
    trained_frames=16,
    grid=8,
    noise="own",
    notes=("knows only its own small paper world; words outside it are named and left out",),
    embedded=True,
)

_BASE = ModelSpec(
    name="modelscope-1.7b",
    kind="text-to-video",
    title="ModelScope text-to-video, 1.7 B parameters, 16 frames of 256 x 256",
    licence=RESEARCH,
    defaults=_defaults(16, 256, 256),
    trained_frames=16,
    grid=8,
    noise="scaled-linear",
    sources=(
        _diffusers("ali-vilab/text-to-video-ms-1.7b", 3_672_000_000, variant=".fp16"),
        _modelscope("modelscope", "iic/text-to-video-synthesis", 14_900_000_000),
        _modelscope("huggingface", "ali-vilab/modelscope-damo-text-to-video-synthesis", 14_900_000_000),
    ),
    notes=(_STOCK_MARKS, ENGLISH, "cannot draw legible text"),
)

_LEGACY = ModelSpec(
    name="modelscope-1.7b-legacy",
    kind="text-to-video",
    title="ModelScope text-to-video, the earlier weight set of March 2023",
    licence=RESEARCH,
    defaults=_defaults(16, 256, 256),
    trained_frames=16,
    grid=8,
    noise="scaled-linear",
    sources=(_diffusers("ali-vilab/text-to-video-ms-1.7b-legacy", 7_342_000_000, weights=_FULL_PRECISION),),
    notes=(_STOCK_MARKS, ENGLISH, "superseded by modelscope-1.7b; kept to repeat old results"),
)

_VGEN = ModelSpec(
    name="vgen-t2v",
    kind="text-to-video",
    title="VGen text-to-video as its own trainer makes it: 448 x 256, cosine schedule, velocity",
    licence=RESEARCH,
    defaults=Defaults(
        frames=16,
        width=448,
        height=256,
        fps=8.0,
        steps=50,
        guidance=9.0,
        sampler="ddim",
        negative_prompt=DISTORTED,
    ),
    trained_frames=16,
    grid=8,
    noise="cosine-velocity",
    notes=(
        VGEN_NOTE,
        "the file cannot tell its diffusion: only weights trained with the cosine velocity recipe fit this row",
    ),
)

_INSTRUCT_BASE = ModelSpec(
    name="instructvideo-base",
    kind="text-to-video",
    title="ModelScope text-to-video v1.4, 600 k steps, the base of InstructVideo",
    licence=RESEARCH,
    defaults=Defaults(
        frames=16, width=256, height=256, fps=8.0, steps=20, guidance=9.0, sampler="ddim", negative_prompt=""
    ),
    trained_frames=16,
    grid=8,
    noise="scaled-linear",
    sources=(
        Source(
            hub="modelscope",
            id="iic/InstructVideo",
            layout="vgen",
            bytes=14_900_000_000,
            patterns=(
                "model_scope_v1-4_0600000.pth",
                "v2-1_512-ema-pruned.ckpt",
                "open_clip_pytorch_model.bin",
            ),
        ),
    ),
    notes=(
        VGEN_NOTE,
        _STOCK_MARKS,
        "the fine-tuned InstructVideo file adds low-rank adapters: not this row",
    ),
)

TEXT_TO_VIDEO = (
    QUICK,
    _PAPERCUT,
    _BASE,
    _LEGACY,
    _fine_tune(
        "zeroscope-v2-576w",
        "Zeroscope v2 576w: 24 frames of 576 x 320, wide and without stock marks",
        "cerspense/zeroscope_v2_576w",
        _defaults(24, 576, 320, steps=40),
    ),
    _fine_tune(
        "zeroscope-v2-xl",
        "Zeroscope v2 XL: 24 frames of 1024 x 576, made to enlarge clips of zeroscope-v2-576w",
        "cerspense/zeroscope_v2_XL",
        _defaults(24, 1024, 576, steps=40),
        "made for video-to-video with strength 0.6 to 0.85; weak from text alone",
    ),
    _fine_tune(
        "zeroscope-v2-dark",
        "Zeroscope v2 dark: 30 frames of 448 x 256, trained with offset noise",
        "cerspense/zeroscope_v2_dark_30x448x256",
        _defaults(30, 448, 256, steps=40),
    ),
    _fine_tune(
        "zeroscope-v1.1-320s",
        "Zeroscope v1.1: 16 frames of 320 x 320",
        "cerspense/zeroscope_v1-1_320s",
        _defaults(16, 320, 320),
    ),
    _fine_tune(
        "zeroscope-v1-320s",
        "Zeroscope v1: 16 frames of 320 x 320",
        "cerspense/zeroscope_v1_320s",
        _defaults(16, 320, 320),
    ),
    _fine_tune(
        "potat1",
        "Potat1: 24 frames of 1024 x 576",
        "camenduru/potat1",
        _defaults(24, 1024, 576),
        "an open prototype: unsteady, and heavy at its size",
    ),
    _fine_tune(
        "animov-0.1.1",
        "Animov 0.1.1: 16 frames of 448 x 384, drawn animation",
        "strangeman3107/animov-0.1.1",
        _defaults(16, 448, 384),
        licence="see its card (unstated here); its base is " + RESEARCH,
    ),
    _fine_tune(
        "animov-512x",
        "Animov 512x: 16 frames of 512 x 512, drawn animation",
        "strangeman3107/animov-512x",
        _defaults(16, 512, 512),
        licence="see its card (unstated here); its base is " + RESEARCH,
    ),
    _VGEN,
    _INSTRUCT_BASE,
)
