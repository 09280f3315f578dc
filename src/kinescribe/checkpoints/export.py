"""Writing the diffusers layout, for people who use that library."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.checkpoints import diffusers
from kinescribe.checkpoints.families import Family
from kinescribe.checkpoints.keymap import Aliases, Foreign, KeyMap
from kinescribe.checkpoints.source import Config, PartName, part
from kinescribe.checkpoints.staging import Content, write_tensors
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.text import TextConfig
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig

_FOLDERS: dict[PartName, tuple[str, str]] = {
    "unet": ("unet", "diffusion_pytorch_model.safetensors"),
    "vae": ("vae", "diffusion_pytorch_model.safetensors"),
    "text": ("text_encoder", "model.safetensors"),
    "vision": ("image_encoder", "model.safetensors"),
}
_CLASSES: dict[Family, str] = {"text-to-video": "TextToVideoSDPipeline", "i2vgen-xl": "I2VGenXLPipeline"}
_VERSIONS: dict[Family, str] = {"text-to-video": "0.15.0", "i2vgen-xl": "0.26.0"}
"""The first version of diffusers that has each pipeline."""
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_diffusers(folder: Path, content: Content, *, dtype: torch.dtype | None) -> tuple[str, ...]:
    """Fill an empty folder in the diffusers layout; what it cannot hold, in words.

    Raises:
        WeightsError: the layout cannot express the model at all.
    """
    refuse("diffusers", _not_for_diffusers(content))
    family: Family = "i2vgen-xl" if "conditions" in content.configs else "text-to-video"
    assert content.tokenizer is not None
    for place, table in _tables(content, family).items():
        (folder / place).parent.mkdir(exist_ok=True)
        write_json(folder / place, table)
    for name, (place, file) in _FOLDERS.items():
        if name in content.configs:
            write_tensors(folder / place / file, _tensors(content, name, family), dtype=dtype)
    write_vocab_merges(folder / "tokenizer", content.tokenizer)
    version = {"_class_name": _CLASSES[family], "_diffusers_version": _VERSIONS[family]}
    write_json(folder / diffusers.INDEX, version | _classes(family))
    return _not_held(content, family)


def write_vocab_merges(folder: Path, tokenizer: Tokenizer) -> None:
    """Write a full vocabulary as the tokenizer folder of the diffusers layout."""
    folder.mkdir()
    full = tokenizer.full
    words = {word: number for word, number in full.entries.items() if number not in (full.start, full.end)}
    write_json(folder / "vocab.json", words | {_START: full.start, _END: full.end})
    merges = "".join(f"{a} {b}\n" for a, b in full.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    pad = _END if tokenizer.padded_with_end else "!"
    marks = {"bos_token": _START, "eos_token": _END, "pad_token": pad, "unk_token": _END}
    write_json(folder / "special_tokens_map.json", marks)
    options = {"model_max_length": tokenizer.context_length, "tokenizer_class": "CLIPTokenizer"}
    write_json(folder / "tokenizer_config.json", options | marks)


def renamed(
    content: Content, name: PartName, layout: Foreign, prefix: str = ""
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one part under foreign names, each behind ``prefix``."""
    ours = dict(content.tensors[name])
    for foreign, tensor in _keymap(content.configs[name], layout).to_foreign(ours.__getitem__):
        yield prefix + foreign, tensor


def refuse(layout: str, reasons: list[str]) -> None:
    """Raise ``WeightsError`` if there are reasons why a layout cannot hold a model."""
    if reasons:
        raise WeightsError(
            f"the {layout} layout cannot hold this model: {'; '.join(reasons)}: keep it native"
        )


def lost_defaults(content: Content, what: str) -> tuple[str, ...]:
    """What a foreign layout cannot hold of a row of the catalog; ``what`` says what remains."""
    return (f"defaults of {content.spec.name} (steps, guidance, sampler, size, licence text): {what}",)


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table as people read it."""
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _keymap(config: Config, layout: Foreign) -> KeyMap:
    return part(config, layout=layout, files=(), wanted="", aliases=Aliases()).keymap


def _tensors(content: Content, name: PartName, family: Family) -> Iterator[tuple[str, Tensor]]:
    """All that lies in the file of one folder."""
    prefix, kind = "text_model." if name == "text" else "", torch.float32
    for foreign, tensor in renamed(content, name, "diffusers", prefix):
        kind = tensor.dtype
        yield foreign, tensor
    config = content.configs[name]
    if family == "i2vgen-xl" and name == "unet":
        yield from renamed(content, "conditions", "diffusers")
    elif family == "i2vgen-xl" and isinstance(config, TextConfig):
        yield from _idle_layer(config, prefix, kind)


def _idle_layer(config: TextConfig, prefix: str, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """The layer behind the last one run, which the pipeline skips: of zeros, so that it would change nothing."""
    longer = replace(config, layers=config.layers + 1)
    for name, shape in _keymap(longer, "diffusers").foreign_shapes.items():
        if name.startswith(f"encoder.layers.{config.layers}."):
            yield prefix + name, torch.zeros(shape, dtype=dtype)


def _not_for_diffusers(content: Content) -> list[str]:
    reasons = []
    unet, conditions, tokenizer = (
        content.configs["unet"],
        content.configs.get("conditions"),
        content.tokenizer,
    )
    assert isinstance(unet, UNetConfig)
    if unet.stem_heads != diffusers.STEM_HEADS:
        reasons.append(f"its stem has {unet.stem_heads} heads, the class {diffusers.STEM_HEADS}")
    if unet.row_padding != 1:
        reasons.append("its strided convolutions pad more rows than those of any class there")
    if content.spec.refinement is not None and content.spec.refinement.filtered_skips:
        reasons.append("it filters its decoder's skips")
    if isinstance(conditions, ImageConditionsConfig) and not _has_class(unet, conditions):
        reasons.append("no class there takes a picture as this model does")
    if tokenizer is not None and tokenizer.keep is not None:
        reasons.append("its vocabulary is compact")
    if content.schedule.kind == "logsnr_cosine_interpolated":
        reasons.append("its schedule has no name there")
    if content.schedule.shift != 1:
        reasons.append("its steps are shifted towards noise")
    return reasons


def _has_class(unet: UNetConfig, conditions: ImageConditionsConfig) -> bool:
    """Whether ``I2VGenXLUNet``, which derives all sizes from two, can have these."""
    channels = conditions.local_channels
    same_width = conditions.image_width == conditions.context_dim == unet.context_dim
    return (
        channels > 0
        and conditions.image_tokens == channels
        and unet.in_channels == 2 * channels
        and same_width
    )


def _not_held(content: Content, family: Family) -> tuple[str, ...]:
    if family == "text-to-video":
        return lost_defaults(content, "size of the UNet alone is kept")
    lines = ["text tower: the layer that does not run is not there; it is written as zeros, and skipped"]
    conditions = content.configs["conditions"]
    assert isinstance(conditions, ImageConditionsConfig)
    if conditions.local_additions != 1:
        lines.append(
            f"what is made of the picture's latents is added {conditions.local_additions} times, as trained; "
            "diffusers adds it once"
        )
    return (*lines, *lost_defaults(content, "none is kept"))


def _classes(family: Family) -> dict[str, list[str]]:
    pairs = {
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", next(name for name, theirs in diffusers.UNETS.items() if theirs == family)],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if family == "i2vgen-xl":
        pairs["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
        pairs["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    return dict(sorted(pairs.items()))


def _tables(content: Content, family: Family) -> dict[str, dict[str, Any]]:
    """Every JSON of the parts by its path."""
    unet, vae, text = content.configs["unet"], content.configs["vae"], content.configs["text"]
    if not (isinstance(unet, UNetConfig) and isinstance(vae, VAEConfig) and isinstance(text, TextConfig)):
        raise TypeError("configs must be those of a UNet, an autoencoder and a text tower")
    tables = {
        "unet/config.json": _unet_table(unet, content, vae, family),
        "vae/config.json": _vae_table(vae),
        "text_encoder/config.json": _text_table(text, family),
        "scheduler/scheduler_config.json": _scheduler_table(content.schedule),
    }
    vision = content.configs.get("vision")
    if isinstance(vision, VisionConfig):
        tables["image_encoder/config.json"] = _vision_table(vision)
        tables[diffusers.PREPROCESSOR] = _pixels_table(vision)
    return tables


def _unet_table(config: UNetConfig, content: Content, vae: VAEConfig, family: Family) -> dict[str, Any]:
    defaults = content.spec.defaults
    sides = [defaults.height // vae.factor, defaults.width // vae.factor]
    pictured = family == "i2vgen-xl"
    table = {
        "_class_name": next(name for name, theirs in diffusers.UNETS.items() if theirs == family),
        "_diffusers_version": _VERSIONS[family],
        "attention_head_dim": config.head_dim,
        "block_out_channels": list(config.channels),
        "cross_attention_dim": config.context_dim,
        "down_block_types": [f"{_cross(a)}DownBlock3D" for a in config.attention_levels],
        "in_channels": config.in_channels // 2 if pictured else config.in_channels,
        "layers_per_block": config.blocks_per_level,
        "norm_num_groups": config.groups,
        "out_channels": config.out_channels,
        "sample_size": sides[0] if sides[0] == sides[1] else sides,
        "up_block_types": [f"{_cross(a)}UpBlock3D" for a in reversed(config.attention_levels)],
    }
    # The class of I2VGen-XL has no such options.
    return table if pictured else table | {"act_fn": "silu", "norm_eps": 1e-5}


def _cross(attention: bool) -> str:
    return "CrossAttn" if attention else ""


def _vae_table(config: VAEConfig) -> dict[str, Any]:
    levels = len(config.multipliers)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.15.0",
        "act_fn": "silu",
        "block_out_channels": list(config.channels),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": config.in_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.blocks_per_level,
        "norm_num_groups": config.groups,
        "out_channels": config.in_channels,
        "sample_size": 512,
        "scaling_factor": config.scale,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def _text_table(config: TextConfig, family: Family) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModel"],
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": config.context_length,
        "model_type": "clip_text_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers + (family == "i2vgen-xl"),
        "pad_token_id": 1,
        "vocab_size": config.vocabulary,
    }


def _vision_table(config: VisionConfig) -> dict[str, Any]:
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "hidden_act": "gelu",
        "hidden_size": config.width,
        "image_size": config.size,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "patch_size": config.patch,
        "projection_dim": config.embedding_width,
    }


def _pixels_table(config: VisionConfig) -> dict[str, Any]:
    return {
        "crop_size": {"height": config.size, "width": config.size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(diffusers.PICTURE_MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(diffusers.PICTURE_DEVIATION),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": config.size},
    }


def _scheduler_table(schedule: ScheduleConfig) -> dict[str, Any]:
    kinds = {ours: theirs for theirs, ours in diffusers.KINDS.items()}
    predictions = {ours: theirs for theirs, ours in diffusers.PREDICTIONS.items()}
    table: dict[str, Any] = {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.15.0",
        "beta_end": schedule.beta_end,
        "beta_schedule": kinds[schedule.kind],
        "beta_start": schedule.beta_start,
        "clip_sample": False,
        "num_train_timesteps": schedule.train_steps,
        "prediction_type": predictions[schedule.prediction],
        "set_alpha_to_one": schedule.final == "clean",
        "steps_offset": schedule.offset,
        "thresholding": False,
        "trained_betas": None,
    }
    if schedule.zero_terminal_snr:
        table["rescale_betas_zero_snr"] = True
    # Absent on purpose where it is open: then each scheduler of diffusers keeps its own, as with the base model.
    return table if schedule.spacing is None else table | {"timestep_spacing": schedule.spacing}
