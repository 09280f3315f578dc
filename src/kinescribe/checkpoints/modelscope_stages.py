"""ModelScope's two further folders, Image-to-Video and Video-to-Video: a small JSON and three pickled files.

The published JSON names the files and says how many frames of which size are made; no size of a network is in
it. Folders of another size say so in ``model_cfg`` under ``unet``, ``autoencoder`` and ``clip``.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.checkpoints.families import Family
from kinescribe.checkpoints.modelscope import (
    I2VGEN_XL,
    IMAGE_TO_VIDEO,
    SCHEDULES,
    TASK,
    TEXT_FILE,
    VIT_H,
    Sizes,
    conditions_part,
    configuration,
    text_config,
    text_part,
    unet_config,
    unet_part,
    vae_config,
    vae_part,
    vision_part,
)
from kinescribe.checkpoints.source import Part, Source
from kinescribe.errors import WeightsError
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vision import VisionConfig

IMAGE_UNET_FILE = "base_03_alldata_fps_v_80g_0789000.pth"
VIDEO_UNET_FILE = "non_ema_0035000.pth"
LIGHTNING_FILE = "v2-1_512-ema-pruned.ckpt"
"""A whole image model, of which the autoencoder is taken; VGen calls it by the same name."""

TASKS: dict[str, Family] = {
    TASK: "text-to-video",
    "image-to-video": "image-to-video",
    "video-to-video": "video-to-video",
}
ROWS: dict[Family, str] = {
    "image-to-video": "modelscope-image-to-video",
    "video-to-video": "modelscope-video-to-video",
}
"""The catalog's row of each stage."""
TYPES: dict[Family, str] = {
    "image-to-video": "image-to-video-model",
    "video-to-video": "video-to-video-model",
}
_LATENT_PIXELS = 8


def family_in(folder: Path) -> Family:
    """Which of ModelScope's models a folder is for, by its configuration; text-to-video without one.

    Raises:
        WeightsError: a task of another kind, or one that contradicts the type of the model.
    """
    document = configuration(folder)
    task, kind = document.get("task", TASK), document.get("model", {}).get("type")
    if task not in TASKS:
        raise WeightsError(f"{folder}: a folder for the task {task!r}, not for one of {', '.join(TASKS)}")
    owner = next((family for family, name in TYPES.items() if name == kind), TASKS[task])
    if owner != TASKS[task]:
        raise WeightsError(f"{folder}: its task is {task!r} but its model {kind!r}: fetch the folder again")
    return TASKS[task]


def describe_stage(folder: Path, spec: ModelSpec | None, family: Family) -> Source:
    """The folder of a stage as a source; ``spec`` None takes the stage's row of the catalog.

    What the configuration says of frames, sizes, steps and solver replaces the row's. Its ``seed`` does not
    count: the reference fixes all noise by it once for all calls, here every call has its own.

    Raises:
        WeightsError: sizes that no known model has, or an unsafe file name.
    """
    document = configuration(folder)
    model, sizes = document.get("model", {}), Sizes.of(document)
    arguments, run = model.get("model_args", {}), model.get("model_cfg", {})
    unet = unet_config(folder, sizes.unet, family)
    default = IMAGE_UNET_FILE if family == "image-to-video" else VIDEO_UNET_FILE
    name, clip = arguments.get("ckpt_unet", default), arguments.get("ckpt_clip", TEXT_FILE)
    spec = spec or _unknown(folder, CATALOG[ROWS[family]])
    return Source(
        layout="modelscope",
        path=folder,
        unet=unet_part(unet, folder, name, family=family),
        vae=vae_part(vae_config(sizes.vae), folder, arguments.get("ckpt_autoencoder", LIGHTNING_FILE)),
        schedule=SCHEDULES[spec.noise],
        spec=_with_run(spec, arguments, run, unet),
        **clip_parts(sizes, folder, [name], clip, family=family),
    )


def clip_parts(sizes: Sizes, folder: Path, unet: list[str], clip: str, *, family: Family) -> dict[str, Any]:
    """The parts that a family has beside UNet and autoencoder, as fields of a ``Source``.

    ``unet`` and ``clip`` name the files of ``folder`` that the conditions and both towers lie in.
    """
    fields: dict[str, Any] = {"text": None, "tokenizer": None}
    if family != "image-to-video":
        fields = {
            "text": text_part(text_config(sizes.clip), folder, clip),
            "tokenizer": sizes.tokenizer(folder),
        }
    if family in ("image-to-video", "i2vgen-xl"):
        fields |= _picture_parts(sizes, folder, unet, clip, family)
    return fields


def conditions_config(sizes: Mapping[str, Any] | None, family: Family) -> ImageConditionsConfig:
    """Sizes of the conditions from those of a UNet; the published ones without them."""
    published = I2VGEN_XL if family == "i2vgen-xl" else IMAGE_TO_VIDEO
    if not sizes:
        return published
    return replace(
        published,
        width=sizes["dim"],
        image_width=sizes["y_dim"],
        context_dim=sizes["context_dim"],
        image_tokens=sizes.get("num_tokens", published.image_tokens),
        local_channels=sizes["in_dim"] if published.local_channels else 0,
    )


def vision_config(sizes: Mapping[str, Any] | None) -> VisionConfig:
    """Sizes of the image tower from those of a CLIP model; the published ones without them."""
    if not sizes:
        return VIT_H
    vision = sizes["vision_cfg"]
    return VisionConfig(
        width=vision["width"],
        layers=vision["layers"],
        heads=vision["width"] // vision["head_width"],
        mlp_width=int(vision["width"] * vision.get("mlp_ratio", 4.0)),
        patch=vision["patch_size"],
        size=vision["image_size"],
        embedding_width=sizes["embed_dim"],
    )


def _grid_of(unet: UNetConfig) -> tuple[int, int]:
    """Step of legal sides in pixels, and how far heights are above a multiple of it, for a second stage."""
    return _LATENT_PIXELS << (len(unet.multipliers) - 1), 2 * _LATENT_PIXELS


def _picture_parts(sizes: Sizes, folder: Path, unet: list[str], clip: str, family: Family) -> dict[str, Part]:
    conditions = conditions_config(sizes.unet, family)
    return {
        "conditions": conditions_part(conditions, folder, *unet, family=family),
        "vision": vision_part(vision_config(sizes.clip), folder, clip),
    }


def _with_run(
    spec: ModelSpec, arguments: Mapping[str, Any], run: Mapping[str, Any], unet: UNetConfig
) -> ModelSpec:
    """The row with what the configuration says of a run."""
    frames = _whole(run, "max_frames", spec.defaults.frames)
    spec = replace(spec, trained_frames=frames, defaults=replace(spec.defaults, frames=frames))
    return _with_picture_run(spec, run) if spec.picture else _with_clip_run(spec, arguments, run, unet)


def _with_picture_run(spec: ModelSpec, run: Mapping[str, Any]) -> ModelSpec:
    assert spec.picture is not None
    defaults, side = spec.defaults, _LATENT_PIXELS
    defaults = replace(
        defaults,
        width=_whole(run, "latent_wid", defaults.width // side) * side,
        height=_whole(run, "latent_hei", defaults.height // side) * side,
        steps=_whole(run, "ddim_timesteps", defaults.steps),
        guidance=float(run.get("guide_scale", defaults.guidance)),
    )
    fps = _whole(run, "target_fps", spec.picture.condition_fps)
    return replace(spec, defaults=defaults, picture=replace(spec.picture, condition_fps=fps))


def _with_clip_run(
    spec: ModelSpec, arguments: Mapping[str, Any], run: Mapping[str, Any], unet: UNetConfig
) -> ModelSpec:
    assert spec.refinement is not None
    defaults, slow = spec.defaults, spec.refinement
    # The reference reads the latent sizes and target_fps of this stage, and uses neither: the size is its own.
    height, width = (
        _whole({"target_size": side}, "target_size", 0)
        for side in run.get("target_size", (defaults.height, defaults.width))
    )
    sampler, steps = defaults.sampler, _whole(run, "fast_steps", defaults.steps)
    if arguments.get("solver_mode", "fast") != "fast" and slow.slow_sampler and slow.slow_steps:
        sampler, steps = slow.slow_sampler, _whole(run, "heun_steps", slow.slow_steps)
    defaults = replace(defaults, width=width, height=height, sampler=sampler, steps=steps)
    grid, remainder = _grid_of(unet)
    return replace(spec, defaults=defaults, grid=grid, row_remainder=remainder)


def _whole(table: Mapping[str, Any], name: str, default: int) -> int:
    value = table.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100_000:
        raise ValueError(f"{name} is {value!r}")
    return value


def _unknown(folder: Path, base: ModelSpec) -> ModelSpec:
    return replace(
        base,
        name=folder.name,
        title=f"a ModelScope folder for {base.kind}, {folder.name}",
        licence="unknown: see where the folder came from",
        sources=(),
        notes=(),
    )
