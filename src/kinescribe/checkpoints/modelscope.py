"""The ModelScope folder: ``configuration.json`` and three pickled files; also without the JSON, as web UIs keep it.

Only the sizes of the UNet are in the JSON. Everything else the reference has in its code, so it stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinescribe.catalog import CATALOG, Defaults, ModelSpec, Noise
from kinescribe.checkpoints.families import CONDITIONS, Family
from kinescribe.checkpoints.files import inside, read_json
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Config, Part, Source, TokenizerFiles, part
from kinescribe.diffusion.schedule import MODELSCOPE, ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig

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

IMAGE_TO_VIDEO = ImageConditionsConfig(
    width=320, image_width=1024, context_dim=1024, image_tokens=4, local_channels=0, local_additions=0
)
"""ModelScope Image-to-Video's conditions, beside a UNet of the sizes above: 1,419,843,396 parameters together."""

# VGen adds what it makes of the picture to itself by mistake, and trained its weights so.
I2VGEN_XL = replace(IMAGE_TO_VIDEO, local_channels=4, local_additions=2)
"""I2VGen-XL's conditions, beside a UNet with four more input channels: 1,420,469,224 parameters together."""

VIT_H = VisionConfig(
    width=1280, layers=32, heads=16, mlp_width=5120, patch=14, size=224, embedding_width=1024
)
"""OpenCLIP ViT-H/14's image tower: 632,076,800 parameters."""

SCHEDULES: dict[Noise, ScheduleConfig] = {
    "scaled-linear": MODELSCOPE,
    "scaled-linear-velocity": replace(MODELSCOPE, prediction="velocity"),
    "cosine-velocity": replace(MODELSCOPE, kind="cosine", prediction="velocity", zero_terminal_snr=True),
    "interpolated-velocity": replace(
        MODELSCOPE,
        kind="logsnr_cosine_interpolated",
        prediction="velocity",
        spacing="trailing",
        offset=0,
        final="clean",
    ),
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


VISION_ALIASES = Aliases(
    renames=((r"^module\.", ""),),
    ignored=(
        r"^(token_embedding|ln_final|transformer\.resblocks\.\d+)\.",
        r"^(positional_embedding|text_projection|logit_scale|attn_mask)$",
    ),
)
"""OpenCLIP's names; the text tower is ignored."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a configuration says of sizes; each is None where the published ones are meant.

    The text-to-video folder has the UNet's alone; the rest are extensions, as are all of the two stages'.
    """

    unet: Mapping[str, Any] | None
    vae: Mapping[str, Any] | None
    clip: Mapping[str, Any] | None
    words: str | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Sizes":
        """The sizes in a whole ``configuration.json``."""
        model = document.get("model", {})
        sizes, extension = model.get("model_cfg", {}), model.get("extension", {})
        words = extension.get("clip_bpe")
        if document.get("task", TASK) == TASK and "unet" not in sizes:
            ddconfig, clip = extension.get("vae_ddconfig"), extension.get("clip")
            return cls(unet=sizes or None, vae=ddconfig, clip=clip, words=words)
        return cls(unet=sizes.get("unet"), vae=sizes.get("autoencoder"), clip=sizes.get("clip"), words=words)

    def tokenizer(self, folder: Path) -> TokenizerFiles:
        """The tokenizer that goes with the text tower."""
        files = () if self.words is None else (inside(folder, self.words),)
        return TokenizerFiles(files=files, context_length=text_config(self.clip).context_length)


def is_modelscope(folder: Path) -> bool:
    """The folder has ModelScope's configuration, or the file that web UIs take from it."""
    return (folder / CONFIGURATION).is_file() or bool(weights_at(folder / UNET_FILE))


def configuration(folder: Path) -> dict[str, Any]:
    """The configuration of a folder; an empty table where there is none. Raises ``WeightsError`` if malformed."""
    return read_json(folder / CONFIGURATION) if (folder / CONFIGURATION).is_file() else {}


def describe_modelscope(folder: Path, spec: ModelSpec | None) -> Source:
    """A text-to-video folder as a source; ``spec`` None takes the defaults of the configuration.

    Raises:
        WeightsError: sizes that no known model has, or an unsafe file name.
    """
    document = configuration(folder)
    model, sizes = document.get("model", {}), Sizes.of(document)
    arguments = model.get("model_args", {})
    spec = spec or _unknown(folder, arguments)
    unet = unet_config(folder, sizes.unet)
    return Source(
        layout="modelscope",
        path=folder,
        unet=unet_part(unet, folder, arguments.get("ckpt_unet", UNET_FILE), family="text-to-video"),
        vae=vae_part(vae_config(sizes.vae), folder, arguments.get("ckpt_autoencoder", VAE_FILE)),
        text=text_part(text_config(sizes.clip), folder, arguments.get("ckpt_clip", TEXT_FILE)),
        tokenizer=sizes.tokenizer(folder),
        schedule=_schedule(folder, model.get("model_cfg", {}), spec),
        spec=spec,
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


def unet_part(config: UNetConfig, folder: Path, *names: str, family: Family) -> Part:
    """The UNet under ModelScope's names, in one file or several of ``folder``, perhaps beside its conditions."""
    pictured = family in ("image-to-video", "i2vgen-xl")
    aliases = replace(UNET_ALIASES, ignored=(CONDITIONS,)) if pictured else UNET_ALIASES
    return _part(config, folder, names, aliases, family)


def conditions_part(config: ImageConditionsConfig, folder: Path, *names: str, family: Family) -> Part:
    """The conditions, which lie in the UNet's files."""
    return _part(config, folder, names, replace(UNET_ALIASES, only=CONDITIONS), family)


def vae_part(config: VAEConfig, folder: Path, name: str) -> Part:
    """The autoencoder under latent diffusion's names."""
    return _part(config, folder, (name,), VAE_ALIASES)


def text_part(config: TextConfig, folder: Path, name: str) -> Part:
    """The text tower under OpenCLIP's names."""
    return _part(config, folder, (name,), text_aliases(config.layers))


def vision_part(config: VisionConfig, folder: Path, name: str) -> Part:
    """The image tower under OpenCLIP's names, in the file that has the text tower as well."""
    return _part(config, folder, (name,), VISION_ALIASES)


def weights_at(path: Path) -> tuple[Path, ...]:
    """The file, or its safetensors twin if that alone is there."""
    twin = path.with_suffix(".safetensors")
    return next(((file,) for file in (path, twin) if file.is_file()), ())


def _part(
    config: Config, folder: Path, names: tuple[str, ...], aliases: Aliases, family: Family | None = None
) -> Part:
    files = tuple(file for name in names for file in weights_at(inside(folder, name)))
    wanted = str(folder / names[0])
    return part(config, layout="modelscope", files=files, wanted=wanted, aliases=aliases, family=family)


def unet_config(
    folder: Path, sizes: Mapping[str, Any] | None, family: Family = "text-to-video"
) -> UNetConfig:
    """Sizes from a configuration, whose keys may lack their ``unet_`` prefix; the 1.7 B model's without it."""
    if not sizes:
        return _of_family(UNET, family)
    plain = {name.removeprefix("unet_"): value for name, value in sizes.items()}
    # The string is what the reference wants; a real true means the same to anybody else.
    if plain.get("temporal_attention", "True") not in ("True", True):
        raise WeightsError(f"{folder}: temporal_attention is off: no text-to-video model is trained so")
    try:
        multipliers, scales = tuple(plain["dim_mult"]), [float(scale) for scale in plain["attn_scales"]]
        config = UNetConfig(
            in_channels=plain["in_dim"],
            out_channels=plain["out_dim"],
            width=plain["dim"],
            multipliers=multipliers,
            blocks_per_level=plain["num_res_blocks"] if "num_res_blocks" in plain else plain["res_blocks"],
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
    return _of_family(config, family)


def _of_family(config: UNetConfig, family: Family) -> UNetConfig:
    """What no configuration says: the second stage's rows, and channels for the latents of a picture."""
    if family == "video-to-video":
        return replace(config, row_padding=2)
    return replace(config, in_channels=2 * config.in_channels) if family == "i2vgen-xl" else config


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
