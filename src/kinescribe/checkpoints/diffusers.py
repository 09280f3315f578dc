"""The diffusers folder: one subfolder per part, each with its JSON; full and ``fp16`` files, whole or in shards."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from kinescribe.catalog import CATALOG, ModelSpec
from kinescribe.checkpoints.files import inside, read_json
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Part, Source, TokenizerFiles, part
from kinescribe.diffusion.schedule import Kind, Prediction, ScheduleConfig, Spacing
from kinescribe.errors import WeightsError
from kinescribe.models.text import TextConfig
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig

INDEX = "model_index.json"
PIPELINES = ("TextToVideoSDPipeline", "TextToVideoMSPipeline", "VideoToVideoSDPipeline")
"""Pipelines whose networks are those of text-to-video; the first commit of the base model used the second name."""

# The class has this number of heads behind its stem written into its code.
STEM_HEADS = 8
_STEMS = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
}
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
_TEXT_ALIASES = Aliases(
    renames=((r"^module\.", ""), (r"^text_model\.", "")),
    ignored=(r"^embeddings\.position_ids$", r"^text_projection\.weight$"),
)


def is_diffusers(folder: Path) -> bool:
    """The folder has an index, or the configuration of a UNet in the right place."""
    return (folder / INDEX).is_file() or (folder / "unet" / "config.json").is_file()


def describe_diffusers(folder: Path, spec: ModelSpec | None, *, variant: str | None) -> Source:
    """A diffusers folder as a source; ``spec`` None takes what its configurations tell.

    Raises:
        WeightsError: another pipeline, an unreadable configuration, or one that no text-to-video model has.
    """
    _require_text_to_video(folder)
    unet_table = _table(folder / "unet" / "config.json")
    unet, vae, text = (
        unet_config(folder, unet_table),
        vae_config(folder, _table(folder / "vae" / "config.json")),
        text_config(folder, _table(folder / "text_encoder" / "config.json")),
    )
    scheduler = _table(folder / "scheduler" / "scheduler_config.json")
    return Source(
        layout="diffusers",
        path=folder,
        unet=_part(folder / "unet", unet, _PLAIN, variant),
        vae=_part(folder / "vae", vae, _VAE_ALIASES, variant),
        text=_part(folder / "text_encoder", text, _TEXT_ALIASES, variant),
        tokenizer=TokenizerFiles(
            files=_tokenizer_files(folder / "tokenizer"), context_length=text.context_length
        ),
        schedule=schedule_config(folder, scheduler),
        spec=spec or _unknown(folder, unet_table, scheduler, vae),
    )


def unet_config(folder: Path, table: Mapping[str, Any]) -> UNetConfig:
    """Sizes of a ``UNet3DConditionModel``; raises ``WeightsError`` for another class or an unknown option."""
    where = folder / "unet"
    _require(where, table, _class_name="UNet3DConditionModel", act_fn="silu", norm_eps=1e-5)
    _require(where, table, downsample_padding=1, mid_block_scale_factor=1)
    channels = table.get("block_out_channels", [320, 640, 1280, 1280])
    down = table.get("down_block_types", ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"])
    up = table.get("up_block_types", ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3)
    attention = tuple(name == "CrossAttnDownBlock3D" for name in down)
    mirrored = tuple(name == "CrossAttnUpBlock3D" for name in reversed(up))
    if attention != mirrored or len(attention) != len(channels) or any(c % channels[0] for c in channels):
        raise WeightsError(f"{where}: blocks {down}, {up} with channels {channels} are of no known model")
    return UNetConfig(
        in_channels=table.get("in_channels", 4),
        out_channels=table.get("out_channels", 4),
        width=channels[0],
        multipliers=tuple(c // channels[0] for c in channels),
        blocks_per_level=table.get("layers_per_block", 2),
        attention_levels=attention,
        head_dim=table.get("attention_head_dim", 64),
        stem_heads=STEM_HEADS,
        context_dim=table.get("cross_attention_dim", 1024),
        groups=table.get("norm_num_groups", 32),
        dropout=0.1,
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


def text_config(folder: Path, table: Mapping[str, Any]) -> TextConfig:
    """Sizes of a ``CLIPTextModel``; raises ``WeightsError`` for another activation or kind."""
    where = folder / "text_encoder"
    _require(where, {"hidden_act": "quick_gelu", **table}, hidden_act="gelu", layer_norm_eps=1e-5)
    return TextConfig(
        vocabulary=table.get("vocab_size", 49408),
        width=table.get("hidden_size", 512),
        layers=table.get("num_hidden_layers", 12),
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
    folder: Path, config: UNetConfig | VAEConfig | TextConfig, aliases: Aliases, variant: str | None
) -> Part:
    files, wanted = find_weights(folder, variant)
    return part(config, layout="diffusers", files=files, wanted=wanted, aliases=aliases)


def _tokenizer_files(folder: Path) -> tuple[Path, ...]:
    pair = (folder / "vocab.json", folder / "merges.txt")
    if all(path.is_file() for path in pair):
        return pair
    if (folder / "tokenizer.json").is_file():
        return (folder / "tokenizer.json",)
    raise WeightsError(
        f"{folder}: neither vocab.json and merges.txt nor tokenizer.json in it: fetch the folder again"
    )


def _require_text_to_video(folder: Path) -> None:
    if not (folder / INDEX).is_file():
        return
    name = read_json(folder / INDEX).get("_class_name")
    if name not in PIPELINES:
        raise WeightsError(
            f"{folder}: a folder of {name}, not of {PIPELINES[0]}: choose a text-to-video model"
        )


def _require(where: Path, table: Mapping[str, Any], **wanted: object) -> None:
    """Options that change what a network computes must have the one value that ours has."""
    for name, value in wanted.items():
        if table.get(name, value) != value:
            raise WeightsError(f"{where}: {name} is {table[name]!r}, text-to-video models have {value!r}")


def _table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"{path} is missing: fetch the folder again (kinescribe models pull)")
    return read_json(path)


def _unknown(
    folder: Path, unet: Mapping[str, Any], scheduler: Mapping[str, Any], vae: VAEConfig
) -> ModelSpec:
    base = CATALOG["modelscope-1.7b"]
    side = unet.get("sample_size") or 32
    height, width = side if isinstance(side, list) else (side, side)
    sampler = _SAMPLERS.get(str(scheduler.get("_class_name")), "dpmpp_2m")
    defaults = replace(
        base.defaults,
        width=width * vae.factor,
        height=height * vae.factor,
        sampler=sampler,
        steps=50 if sampler == "ddim" else base.defaults.steps,
    )
    return replace(
        base,
        name=folder.name,
        title=f"a diffusers folder, {folder.name}",
        licence="unknown: see where the folder came from",
        defaults=defaults,
        sources=(),
        notes=(),
    )
