"""The diffusers folder: one subfolder per part, each with its JSON; full and ``fp16`` files, whole or in shards."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.checkpoints.families import CONDITIONS, Family
from kinescribe.checkpoints.files import inside, read_json
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Config, Part, Source, TokenizerFiles, part
from kinescribe.diffusion.schedule import Kind, Prediction, ScheduleConfig, Spacing
from kinescribe.errors import WeightsError
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig

INDEX = "model_index.json"
PREPROCESSOR = "feature_extractor/preprocessor_config.json"
PIPELINES: dict[str, Family] = {
    "TextToVideoSDPipeline": "text-to-video",
    "TextToVideoMSPipeline": "text-to-video",  # the name in the first commit of the base model
    "VideoToVideoSDPipeline": "text-to-video",  # a way of running, with the same networks
    "I2VGenXLPipeline": "i2vgen-xl",
}
UNETS: dict[str, Family] = {"UNet3DConditionModel": "text-to-video", "I2VGenXLUNet": "i2vgen-xl"}

# The class has this number of heads behind its stem written into its code.
STEM_HEADS = 8
_STEMS = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
    "image_encoder": ("model", "pytorch_model"),
}
# CLIP's mean colour and deviation, which every image tower of the family was trained with.
PICTURE_MEAN = (0.48145466, 0.4578275, 0.40821073)
PICTURE_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
KINDS: dict[str, Kind] = {"scaled_linear": "scaled_linear", "linear": "linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS: dict[str, Prediction] = {"epsilon": "noise", "v_prediction": "velocity", "sample": "clean"}
_SAMPLERS = {
    "DDIMScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "UniPCMultistepScheduler": "unipc",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
}
_PLAIN = Aliases(renames=((r"^module\.", ""),))
# Names of before diffusers 0.18; both kinds are found in published folders.
_VAE_ALIASES = Aliases(
    renames=(
        (r"^module\.", ""),
        (r"(\.attentions\.0\.)query\.", r"\1to_q."),
        (r"(\.attentions\.0\.)key\.", r"\1to_k."),
        (r"(\.attentions\.0\.)value\.", r"\1to_v."),
        (r"(\.attentions\.0\.)proj_attn\.", r"\1to_out.0."),
    )
)
_VISION_ALIASES = replace(_PLAIN, ignored=(r"^vision_model\.embeddings\.position_ids$",))


def text_aliases(layers: int, family: Family) -> Aliases:
    """Names with and without their prefix; a projection, and I2VGen-XL's layer that does not run, are ignored."""
    ignored = [r"^embeddings\.position_ids$", r"^text_projection\.weight$"]
    if family == "i2vgen-xl":
        ignored.append(rf"^encoder\.layers\.{layers}\.")
    return Aliases(renames=((r"^module\.", ""), (r"^text_model\.", "")), ignored=tuple(ignored))


def is_diffusers(folder: Path) -> bool:
    """The folder has an index, or the configuration of a UNet in the right place."""
    return (folder / INDEX).is_file() or (folder / "unet" / "config.json").is_file()


def family_of_index(folder: Path) -> Family:
    """Which model a folder is of, by its index or else by the class of its UNet.

    Raises:
        WeightsError: a pipeline that is not one of ours.
    """
    if (folder / INDEX).is_file():
        name = read_json(folder / INDEX).get("_class_name")
        if name not in PIPELINES:
            known = ", ".join(dict.fromkeys(PIPELINES))
            raise WeightsError(f"{folder}: a folder of {name}, not of {known}: choose another model")
        return PIPELINES[name]
    name = _table(folder / "unet" / "config.json").get("_class_name", "UNet3DConditionModel")
    return UNETS.get(name, "text-to-video")


def describe_diffusers(
    folder: Path, spec: ModelSpec | None, family: Family, *, variant: str | None
) -> Source:
    """A diffusers folder as a source; ``spec`` None takes what its configurations tell.

    Raises:
        WeightsError: an unreadable configuration, or one that no model of the family has.
    """
    unet_table = _table(folder / "unet" / "config.json")
    unet = unet_config(folder, unet_table, family)
    vae = vae_config(folder, _table(folder / "vae" / "config.json"))
    text = text_config(folder, _table(folder / "text_encoder" / "config.json"), family)
    scheduler = _table(folder / "scheduler" / "scheduler_config.json")
    pictured = family == "i2vgen-xl"
    in_unet = replace(_PLAIN, ignored=(CONDITIONS,)) if pictured else _PLAIN
    return Source(
        layout="diffusers",
        path=folder,
        unet=_part(folder / "unet", unet, in_unet, variant, family),
        vae=_part(folder / "vae", vae, _VAE_ALIASES, variant),
        text=_part(folder / "text_encoder", text, text_aliases(text.layers, family), variant),
        tokenizer=TokenizerFiles(
            files=_tokenizer_files(folder / "tokenizer"),
            context_length=text.context_length,
            padded_with_end=_padded_with_end(folder / "tokenizer"),
        ),
        schedule=schedule_config(folder, scheduler),
        spec=spec or _unknown(folder, unet_table, scheduler, vae, family),
        **(_picture_parts(folder, unet_table, variant) if pictured else {}),  # type: ignore[arg-type]
    )


def unet_config(folder: Path, table: Mapping[str, Any], family: Family) -> UNetConfig:
    """Sizes of a UNet; raises ``WeightsError`` for another class or an unknown option."""
    where = folder / "unet"
    _require(where, table, _class_name=next(name for name, theirs in UNETS.items() if theirs == family))
    _require(where, table, act_fn="silu", norm_eps=1e-5, downsample_padding=1, mid_block_scale_factor=1)
    channels = table.get("block_out_channels", [320, 640, 1280, 1280])
    down = table.get("down_block_types", ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"])
    up = table.get("up_block_types", ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3)
    attention = tuple(name == "CrossAttnDownBlock3D" for name in down)
    mirrored = tuple(name == "CrossAttnUpBlock3D" for name in reversed(up))
    if attention != mirrored or len(attention) != len(channels) or any(c % channels[0] for c in channels):
        raise WeightsError(f"{where}: blocks {down}, {up} with channels {channels} are of no known model")
    return UNetConfig(
        # The channels that I2VGen-XL has for the latents of the picture are not counted there.
        in_channels=table.get("in_channels", 4) * (2 if family == "i2vgen-xl" else 1),
        out_channels=table.get("out_channels", 4),
        width=channels[0],
        multipliers=tuple(c // channels[0] for c in channels),
        blocks_per_level=table.get("layers_per_block", 2),
        attention_levels=attention,
        # Early folders of I2VGen-XL have it under num_attention_heads, with the value that is assumed here.
        head_dim=table.get("attention_head_dim", 64),
        stem_heads=STEM_HEADS,
        context_dim=table.get("cross_attention_dim", 1024),
        groups=table.get("norm_num_groups", 32),
        dropout=0.1,
    )


def conditions_config(table: Mapping[str, Any]) -> ImageConditionsConfig:
    """Sizes of the conditions that lie in an ``I2VGenXLUNet``; what is made of the picture is added once."""
    channels, context = table.get("in_channels", 4), table.get("cross_attention_dim", 1024)
    return ImageConditionsConfig(
        width=table.get("block_out_channels", [320])[0],
        image_width=context,
        context_dim=context,
        image_tokens=channels,
        local_channels=channels,
        local_additions=1,
    )


def vision_config(folder: Path, table: Mapping[str, Any]) -> VisionConfig:
    """Sizes of a ``CLIPVisionModelWithProjection``; raises ``WeightsError`` for another activation."""
    where = folder / "image_encoder"
    _require(where, {"hidden_act": "quick_gelu", **table}, hidden_act="gelu", layer_norm_eps=1e-5)
    return VisionConfig(
        width=table.get("hidden_size", 768),
        layers=table.get("num_hidden_layers", 12),
        heads=table.get("num_attention_heads", 12),
        mlp_width=table.get("intermediate_size", 3072),
        patch=table.get("patch_size", 32),
        size=table.get("image_size", 224),
        embedding_width=table.get("projection_dim", 512),
    )


def vae_config(folder: Path, table: Mapping[str, Any]) -> VAEConfig:
    """Sizes of an ``AutoencoderKL``; raises ``WeightsError`` for another class or an unknown option."""
    where = folder / "vae"
    _require(where, table, _class_name="AutoencoderKL", act_fn="silu", use_quant_conv=True)
    _require(where, table, use_post_quant_conv=True, mid_block_add_attention=True, shift_factor=None)
    channels = table.get("block_out_channels", [64])
    return VAEConfig(
        in_channels=table.get("in_channels", 3),
        latent_channels=table.get("latent_channels", 4),
        width=channels[0],
        multipliers=tuple(c // channels[0] for c in channels),
        blocks_per_level=table.get("layers_per_block", 1),
        groups=table.get("norm_num_groups", 32),
        scale=table.get("scaling_factor", 0.18215),
    )


def text_config(folder: Path, table: Mapping[str, Any], family: Family) -> TextConfig:
    """Sizes of a ``CLIPTextModel``; raises ``WeightsError`` for another activation or kind.

    Text-to-video folders have only the layers that run, those of I2VGen-XL one more, which is skipped.
    """
    where = folder / "text_encoder"
    _require(where, {"hidden_act": "quick_gelu", **table}, hidden_act="gelu", layer_norm_eps=1e-5)
    return TextConfig(
        vocabulary=table.get("vocab_size", 49408),
        width=table.get("hidden_size", 512),
        layers=table.get("num_hidden_layers", 12) - (family == "i2vgen-xl"),
        heads=table.get("num_attention_heads", 8),
        mlp_width=table.get("intermediate_size", 2048),
        context_length=table.get("max_position_embeddings", 77),
    )


def schedule_config(folder: Path, table: Mapping[str, Any]) -> ScheduleConfig:
    """The schedule of a scheduler's configuration.

    A spacing that is not written down stays open: each sampler then keeps its own, as in diffusers.

    Raises:
        WeightsError: a schedule, prediction or correction that we do not have.
    """
    where = folder / "scheduler"
    _require(where, table, trained_betas=None, thresholding=False, clip_sample=False)
    spacing = table.get("timestep_spacing")
    kind, prediction = table.get("beta_schedule", "linear"), table.get("prediction_type", "epsilon")
    if kind not in KINDS or prediction not in PREDICTIONS or spacing not in (None, *get_args(Spacing)):
        raise WeightsError(f"{where}: {kind} betas, {prediction}, spacing {spacing}: not a schedule we know")
    return ScheduleConfig(
        kind=KINDS[kind],
        beta_start=table.get("beta_start", 0.0001),
        beta_end=table.get("beta_end", 0.02),
        train_steps=table.get("num_train_timesteps", 1000),
        prediction=PREDICTIONS[prediction],
        zero_terminal_snr=bool(table.get("rescale_betas_zero_snr", False)),
        spacing=spacing,
        offset=table.get("steps_offset", 0),
        final="clean" if table.get("set_alpha_to_one", True) else "first",
    )


def find_weights(folder: Path, variant: str | None) -> tuple[tuple[Path, ...], str]:
    """The file or the shards of one part, and what to name where they are absent.

    The asked variant comes first, then the plain file, then ``fp16``, which may be all that was fetched.

    Raises:
        WeightsError: an index that is malformed or names a file outside the folder.
    """
    stems = _STEMS[folder.name]
    wanted = str(folder / f"{stems[0]}.safetensors")
    for middle in dict.fromkeys((variant, None, "fp16")):
        dot = f".{middle}" if middle else ""
        for suffix in (".safetensors", ".bin"):
            for stem in stems:
                whole = folder / f"{stem}{dot}{suffix}"
                if whole.is_file():
                    return (whole,), wanted
                indices = (f"{stem}{suffix}.index{dot}.json", f"{stem}{dot}{suffix}.index.json")
                index = next((folder / name for name in indices if (folder / name).is_file()), None)
                if index is not None:
                    return _shards(index)
    return (), wanted


def _shards(index: Path) -> tuple[tuple[Path, ...], str]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise WeightsError(f"{index}: has no weight_map: fetch it again")
    files = tuple(inside(index.parent, name) for name in sorted(set(table.values())))
    absent = [path for path in files if not path.is_file()]
    return ((), ", ".join(map(str, absent))) if absent else (files, "")


def _part(
    folder: Path, config: Config, aliases: Aliases, variant: str | None, family: Family | None = None
) -> Part:
    files, wanted = find_weights(folder, variant)
    return part(config, layout="diffusers", files=files, wanted=wanted, aliases=aliases, family=family)


def _picture_parts(folder: Path, unet: Mapping[str, Any], variant: str | None) -> dict[str, Part]:
    vision = vision_config(folder, _table(folder / "image_encoder" / "config.json"))
    _require_pixels(folder, vision)
    return {
        "conditions": _part(
            folder / "unet",
            conditions_config(unet),
            replace(_PLAIN, only=CONDITIONS),
            variant,
            "i2vgen-xl",
        ),
        "vision": _part(folder / "image_encoder", vision, _VISION_ALIASES, variant),
    }


def _require_pixels(folder: Path, vision: VisionConfig) -> None:
    """How pictures are prepared must be how ours are, if the folder says it."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        return
    table = read_json(path)
    _require(path, table, image_mean=list(PICTURE_MEAN), image_std=list(PICTURE_DEVIATION))
    crop = table.get("crop_size", vision.size)
    sides = set(crop.values()) if isinstance(crop, dict) else {crop}
    if sides != {vision.size}:
        raise WeightsError(f"{path}: pictures of {crop}, its image tower takes {vision.size}: fetch it again")


def _padded_with_end(folder: Path) -> bool:
    """Whether the mark that ends a text also fills its row; the published text-to-video folders have "!", id 0."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        table = read_json(folder / name) if (folder / name).is_file() else {}
        pad = table.get("pad_token")
        word = pad.get("content") if isinstance(pad, dict) else pad
        if word is not None:
            return word == "<|endoftext|>"
    return False


def _tokenizer_files(folder: Path) -> tuple[Path, ...]:
    pair = (folder / "vocab.json", folder / "merges.txt")
    if all(path.is_file() for path in pair):
        return pair
    if (folder / "tokenizer.json").is_file():
        return (folder / "tokenizer.json",)
    raise WeightsError(
        f"{folder}: neither vocab.json and merges.txt nor tokenizer.json in it: fetch the folder again"
    )


def _require(where: Path, table: Mapping[str, Any], **wanted: object) -> None:
    """Options that change what a network computes must have the one value that ours has."""
    for name, value in wanted.items():
        if table.get(name, value) != value:
            raise WeightsError(f"{where}: {name} is {table[name]!r}, models of this family have {value!r}")


def _table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"{path} is missing: fetch the folder again (kinescribe models pull)")
    return read_json(path)


def _unknown(
    folder: Path, unet: Mapping[str, Any], scheduler: Mapping[str, Any], vae: VAEConfig, family: Family
) -> ModelSpec:
    base = CATALOG["i2vgen-xl" if family == "i2vgen-xl" else "modelscope-1.7b"]
    defaults = base.defaults
    # The published folder of I2VGen-XL gives a size that nobody uses, so only the other's counts.
    if family == "text-to-video":
        side = unet.get("sample_size") or 32
        height, width = side if isinstance(side, list) else (side, side)
        defaults = replace(defaults, width=width * vae.factor, height=height * vae.factor)
    sampler = _SAMPLERS.get(str(scheduler.get("_class_name")), "dpmpp_2m")
    steps = 50 if sampler == "ddim" else CATALOG["modelscope-1.7b"].defaults.steps
    return replace(
        base,
        name=folder.name,
        title=f"a diffusers folder, {folder.name}",
        licence="unknown: see where the folder came from",
        defaults=replace(defaults, sampler=sampler, steps=steps),
        sources=(),
        notes=(),
    )
