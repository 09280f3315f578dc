"""The ModelScope folder: ``configuration.json`` and three pickled files; also without the JSON, as web UIs keep it.

Only the sizes of the UNet are in the JSON. Everything else the reference has in its code, so it stands here.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinescribe.catalog import CATALOG, Defaults, ModelSpec, Noise
from kinescribe.checkpoints.files import inside, read_json
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Part, Source, TokenizerFiles, part
from kinescribe.diffusion.schedule import MODELSCOPE, ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig

CONFIGURATION = "configuration.json"
UNET_FILE = "text2video_pytorch_model.pth"
VAE_FILE = "VQGAN_autoencoder.pth"
TEXT_FILE = "open_clip_pytorch_model.bin"
TASK = "text-to-video-synthesis"

UNET = UNetConfig(
    in_channels=4,
    out_channels=4,
    width=320,
    multipliers=(1, 2, 4, 4),
    blocks_per_level=2,
    attention_levels=(True, True, True, False),
    head_dim=64,
    stem_heads=8,
    context_dim=1024,
    groups=32,
    dropout=0.1,
)
"""The 1.7 B model's UNet: 1,411,233,860 parameters in 1480 tensors."""

VAE = VAEConfig(
    in_channels=3,
    latent_channels=4,
    width=128,
    multipliers=(1, 2, 4, 4),
    blocks_per_level=2,
    groups=32,
    scale=0.18215,
)
"""Stable Diffusion's autoencoder: 83,653,863 parameters in 248 tensors."""

TEXT = TextConfig(vocabulary=49408, width=1024, layers=23, heads=16, mlp_width=4096, context_length=77)
"""OpenCLIP ViT-H/14's text tower without its last layer: 340,387,840 parameters."""

SCHEDULES: dict[Noise, ScheduleConfig] = {
    "scaled-linear": MODELSCOPE,
    "cosine-velocity": replace(MODELSCOPE, kind="cosine", prediction="velocity", zero_terminal_snr=True),
}
"""The diffusions that layouts without a scheduler file were trained with."""

UNET_ALIASES = Aliases(renames=((r"^module\.", ""),))
# A whole image-model checkpoint may stand in for the autoencoder's file; the rest of it is not needed.
VAE_ALIASES = Aliases(
    renames=((r"^module\.", ""), (r"^first_stage_model\.", "")),
    only=r"(first_stage_model\.)?(encoder|decoder|quant_conv|post_quant_conv)\.",
)


def text_aliases(layers: int) -> Aliases:
    """OpenCLIP's names; the image tower, the projections and the layer behind the last one run are ignored."""
    unused = (r"^visual\.", r"^text_projection$", r"^logit_scale$", r"^attn_mask$")
    return Aliases(renames=((r"^module\.", ""),), ignored=(*unused, rf"^transformer\.resblocks\.{layers}\."))


def is_modelscope(folder: Path) -> bool:
    """The folder has ModelScope's configuration, or the file that web UIs take from it."""
    return (folder / CONFIGURATION).is_file() or bool(weights_at(folder / UNET_FILE))


def describe_modelscope(folder: Path, spec: ModelSpec | None) -> Source:
    """A ModelScope folder as a source; ``spec`` None takes the defaults of the configuration.

    Raises:
        WeightsError: another task, sizes that no known model has, or an unsafe file name.
    """
    document = read_json(folder / CONFIGURATION) if (folder / CONFIGURATION).is_file() else {}
    require_text_to_video(folder, document)
    model = document.get("model", {})
    arguments, extension = model.get("model_args", {}), model.get("extension", {})
    text = text_config(extension.get("clip"))
    spec = spec or _unknown(folder, arguments)
    return Source(
        layout="modelscope",
        path=folder,
        unet=unet_part(
            unet_config(folder, model.get("model_cfg")), folder, arguments.get("ckpt_unet", UNET_FILE)
        ),
        vae=vae_part(
            vae_config(extension.get("vae_ddconfig")), folder, arguments.get("ckpt_autoencoder", VAE_FILE)
        ),
        text=text_part(text, folder, arguments.get("ckpt_clip", TEXT_FILE)),
        tokenizer=TokenizerFiles(
            files=(inside(folder, extension["clip_bpe"]),) if "clip_bpe" in extension else (),
            context_length=text.context_length,
        ),
        schedule=_schedule(folder, model.get("model_cfg", {}), spec),
        spec=spec,
    )


def require_text_to_video(folder: Path, document: Mapping[str, Any]) -> None:
    """Raise ``WeightsError`` for the configuration of another task."""
    task = document.get("task", TASK)
    if task != TASK:
        raise WeightsError(
            f"{folder}: a folder for the task {task!r}, not {TASK!r}: choose a text-to-video model"
        )


def file_names(folder: Path) -> dict[str, str]:
    """The weight files that a folder's configuration names, by part; the published names where it cannot say."""
    names = {"unet": ("ckpt_unet", UNET_FILE), "vae": ("ckpt_autoencoder", VAE_FILE)}
    names["text"] = ("ckpt_clip", TEXT_FILE)
    try:
        arguments = read_json(folder / CONFIGURATION)["model"]["model_args"]
        return {part: inside(folder, arguments.get(key, name)).name for part, (key, name) in names.items()}
    except (WeightsError, KeyError, TypeError, AttributeError):
        return {part: name for part, (_, name) in names.items()}


def unet_part(config: UNetConfig, folder: Path, *names: str) -> Part:
    """The UNet under ModelScope's names, in one file or several of ``folder``."""
    files = tuple(file for name in names for file in weights_at(inside(folder, name)))
    return part(config, layout="modelscope", files=files, wanted=str(folder / names[0]), aliases=UNET_ALIASES)


def vae_part(config: VAEConfig, folder: Path, name: str) -> Part:
    """The autoencoder under latent diffusion's names."""
    path = inside(folder, name)
    return part(config, layout="modelscope", files=weights_at(path), wanted=str(path), aliases=VAE_ALIASES)


def text_part(config: TextConfig, folder: Path, name: str) -> Part:
    """The text tower under OpenCLIP's names."""
    path = inside(folder, name)
    aliases = text_aliases(config.layers)
    return part(config, layout="modelscope", files=weights_at(path), wanted=str(path), aliases=aliases)


def weights_at(path: Path) -> tuple[Path, ...]:
    """The file, or its safetensors twin if that alone is there."""
    twin = path.with_suffix(".safetensors")
    return next(((file,) for file in (path, twin) if file.is_file()), ())


def unet_config(folder: Path, sizes: Mapping[str, Any] | None) -> UNetConfig:
    """Sizes from ``model_cfg``, whose keys may lack their ``unet_`` prefix; the 1.7 B model's without it."""
    if not sizes:
        return UNET
    plain = {name.removeprefix("unet_"): value for name, value in sizes.items()}
    # The string is what the reference wants; a real true means the same to anybody else.
    if plain.get("temporal_attention", "True") not in ("True", True):
        raise WeightsError(f"{folder}: temporal_attention is off: no text-to-video model is trained so")
    try:
        multipliers, scales = tuple(plain["dim_mult"]), [float(scale) for scale in plain["attn_scales"]]
        return UNetConfig(
            in_channels=plain["in_dim"],
            out_channels=plain["out_dim"],
            width=plain["dim"],
            multipliers=multipliers,
            blocks_per_level=plain["res_blocks"],
            attention_levels=tuple(0.5**i in scales for i in range(len(multipliers))),
            head_dim=plain["head_dim"],
            stem_heads=plain["num_heads"] or plain["dim"] // 32,
            context_dim=plain["context_dim"],
            groups=32,
            dropout=plain.get("dropout", 0.1),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = (str(error).strip() or "a size").splitlines()[0]
        raise WeightsError(
            f"{folder / CONFIGURATION}: model_cfg lacks or garbles {what}: fetch it again"
        ) from error


def vae_config(sizes: Mapping[str, Any] | None) -> VAEConfig:
    """Sizes from an ``extension`` table; the published ones without it."""
    if not sizes:
        return VAE
    return VAEConfig(
        in_channels=sizes["in_channels"],
        latent_channels=sizes["z_channels"],
        width=sizes["ch"],
        multipliers=tuple(sizes["ch_mult"]),
        blocks_per_level=sizes["num_res_blocks"],
        groups=32,
        scale=sizes.get("scale_factor", VAE.scale),
    )


def text_config(sizes: Mapping[str, Any] | None) -> TextConfig:
    """Sizes from an ``extension`` table, in which the layer that does not run counts; else the published ones."""
    if not sizes:
        return TEXT
    text = sizes["text_cfg"]
    return TextConfig(
        vocabulary=text["vocab_size"],
        width=text["width"],
        layers=text["layers"] - 1,
        heads=text["heads"],
        mlp_width=int(text["width"] * text.get("mlp_ratio", 4.0)),
        context_length=text["context_length"],
    )


def _schedule(folder: Path, sizes: Mapping[str, Any], spec: ModelSpec) -> ScheduleConfig:
    schedule = SCHEDULES[spec.noise]
    if sizes.get("mean_type", "eps") != {"noise": "eps", "velocity": "v"}.get(schedule.prediction):
        raise WeightsError(
            f"{folder / CONFIGURATION}: mean_type {sizes['mean_type']!r} is not what {spec.name} predicts"
        )
    return replace(schedule, train_steps=sizes.get("num_timesteps", schedule.train_steps))


def _unknown(folder: Path, arguments: Mapping[str, Any]) -> ModelSpec:
    base = CATALOG["modelscope-1.7b"]
    frames = arguments.get("max_frames", base.trained_frames)
    defaults: Defaults = replace(base.defaults, frames=frames)
    return replace(
        base,
        name=folder.name,
        title=f"a ModelScope folder, {folder.name}",
        licence="unknown: see where the folder came from",
        defaults=defaults,
        trained_frames=frames,
        sources=(),
        notes=(),
    )
