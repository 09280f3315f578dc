"""Writing the two published layouts, for people who use the other libraries."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.checkpoints import diffusers, modelscope
from kinescribe.checkpoints.keymap import Aliases, Foreign
from kinescribe.checkpoints.source import PartName, part, same_vocabulary
from kinescribe.checkpoints.staging import Content, converted, write_tensors
from kinescribe.diffusion.schedule import MODELSCOPE, ScheduleConfig
from kinescribe.errors import WeightsError
from kinescribe.models.text import TextConfig
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vocabulary import Vocabulary, read_bpe_file

BPE_FILE = "bpe_simple_vocab.txt.gz"
_FOLDERS: dict[PartName, tuple[str, str]] = {
    "unet": ("unet", "diffusion_pytorch_model.safetensors"),
    "vae": ("vae", "diffusion_pytorch_model.safetensors"),
    "text": ("text_encoder", "model.safetensors"),
}
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_diffusers(folder: Path, content: Content, *, dtype: torch.dtype | None) -> tuple[str, ...]:
    """Fill an empty folder in the diffusers layout; what it cannot hold, in words.

    Raises:
        WeightsError: the layout cannot express the model at all.
    """
    unet, vae, text = _configs(content)
    _refuse("diffusers", _not_for_diffusers(content, unet))
    tables = {
        "unet": _unet_table(unet, content, vae),
        "vae": _vae_table(vae),
        "text_encoder": _text_table(text),
        "scheduler": _scheduler_table(content.schedule),
    }
    for name, table in tables.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        _write_json(folder / name / file, table)
    for name, (place, file) in _FOLDERS.items():
        prefix = "text_model." if name == "text" else ""
        write_tensors(folder / place / file, _renamed(content, name, "diffusers", prefix), dtype=dtype)
    write_vocab_merges(folder / "tokenizer", content.tokenizer)
    pairs = {
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet3DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    version = {"_class_name": diffusers.PIPELINES[0], "_diffusers_version": "0.15.0"}
    _write_json(folder / diffusers.INDEX, version | pairs)
    return _lost_defaults(content, "size of the UNet alone is kept")


def write_modelscope(folder: Path, content: Content, *, dtype: torch.dtype | None) -> tuple[str, ...]:
    """Fill an empty folder in the ModelScope layout, whose weights are pickles; what it cannot hold, in words.

    Raises:
        WeightsError: the layout cannot express the model at all.
    """
    unet, vae, text = _configs(content)
    _refuse("modelscope", _not_for_modelscope(content, unet, vae))
    names: tuple[tuple[PartName, str, str], ...] = (
        ("unet", modelscope.UNET_FILE, ""),
        ("vae", modelscope.VAE_FILE, "first_stage_model."),
        ("text", modelscope.TEXT_FILE, ""),
    )
    for name, file, prefix in names:
        state = dict(converted(_renamed(content, name, "modelscope", prefix), dtype=dtype))
        torch.save({"state_dict": state} if name == "vae" else state, folder / file)
    extension: dict[str, Any] = {}
    if vae != modelscope.VAE:
        extension["vae_ddconfig"] = _ldm_table(vae)
    if text != modelscope.TEXT:
        extension["clip"] = {"text_cfg": _open_clip_table(text)}
    if not same_vocabulary(content.tokenizer.full, Tokenizer.clip().full):
        _write_bpe(folder / BPE_FILE, content.tokenizer.full)
        extension["clip_bpe"] = BPE_FILE
    _write_json(folder / modelscope.CONFIGURATION, _configuration(unet, content, extension))
    return (
        *_lost_defaults(content, "the frame count alone is kept"),
        *_lost_spacing(content.schedule),
        "text tower: the layer that does not run, the projection and the image tower are not there; "
        "ModelScope's own loader asks for them, ours does not",
    )


def write_vocab_merges(folder: Path, tokenizer: Tokenizer) -> None:
    """Write a full vocabulary as the tokenizer folder of the diffusers layout."""
    folder.mkdir()
    full = tokenizer.full
    words = {word: number for word, number in full.entries.items() if number not in (full.start, full.end)}
    _write_json(folder / "vocab.json", words | {_START: full.start, _END: full.end})
    merges = "".join(f"{a} {b}\n" for a, b in full.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    marks = {"bos_token": _START, "eos_token": _END, "pad_token": "!", "unk_token": _END}
    _write_json(folder / "special_tokens_map.json", marks)
    options = {"model_max_length": tokenizer.context_length, "tokenizer_class": "CLIPTokenizer"}
    _write_json(folder / "tokenizer_config.json", options | marks)


def _configs(content: Content) -> tuple[UNetConfig, VAEConfig, TextConfig]:
    unet, vae, text = content.configs["unet"], content.configs["vae"], content.configs["text"]
    if not (isinstance(unet, UNetConfig) and isinstance(vae, VAEConfig) and isinstance(text, TextConfig)):
        raise TypeError("configs must be those of a UNet, an autoencoder and a text tower")
    return unet, vae, text


def _renamed(content: Content, name: PartName, layout: Foreign, prefix: str) -> Iterator[tuple[str, Tensor]]:
    config = content.configs[name]
    keymap = part(config, layout=layout, files=(), wanted="", aliases=Aliases()).keymap
    ours = dict(content.tensors[name])
    for foreign, tensor in keymap.to_foreign(ours.__getitem__):
        yield prefix + foreign, tensor


def _refuse(layout: str, reasons: list[str]) -> None:
    if reasons:
        raise WeightsError(
            f"the {layout} layout cannot hold this model: {'; '.join(reasons)}: keep it native"
        )


def _not_for_diffusers(content: Content, unet: UNetConfig) -> list[str]:
    reasons = []
    if unet.stem_heads != diffusers.STEM_HEADS:
        reasons.append(f"its stem has {unet.stem_heads} heads, the class {diffusers.STEM_HEADS}")
    if content.tokenizer.keep is not None:
        reasons.append("its vocabulary is compact")
    if content.schedule.kind == "logsnr_cosine_interpolated":
        reasons.append("its schedule has no name there")
    return reasons


def _not_for_modelscope(content: Content, unet: UNetConfig, vae: VAEConfig) -> list[str]:
    reasons = []
    wanted, given = MODELSCOPE, content.schedule
    fields = ("kind", "beta_start", "beta_end", "prediction", "zero_terminal_snr")
    changed = [name for name in fields if getattr(given, name) != getattr(wanted, name)]
    if changed:
        reasons.append(f"its schedule differs in {', '.join(changed)}, which no file there says")
    if content.tokenizer.keep is not None:
        reasons.append("its vocabulary is compact")
    elif not _is_bpe_ordered(content.tokenizer.full):
        reasons.append("the ids of its vocabulary do not follow the merge rules")
    if unet.groups != modelscope.UNET.groups or vae.groups != modelscope.VAE.groups:
        reasons.append("its normalisations have other groups than 32")
    return reasons


def _lost_defaults(content: Content, what: str) -> tuple[str, ...]:
    return (f"defaults of {content.spec.name} (steps, guidance, sampler, size, licence text): {what}",)


def _lost_spacing(schedule: ScheduleConfig) -> tuple[str, ...]:
    fields = [
        name
        for name in ("spacing", "offset", "final")
        if getattr(schedule, name) != getattr(MODELSCOPE, name)
    ]
    return (f"schedule: {', '.join(fields)}",) if fields else ()


def _unet_table(config: UNetConfig, content: Content, vae: VAEConfig) -> dict[str, Any]:
    defaults = content.spec.defaults
    sides = [defaults.height // vae.factor, defaults.width // vae.factor]
    return {
        "_class_name": "UNet3DConditionModel",
        "_diffusers_version": "0.15.0",
        "act_fn": "silu",
        "attention_head_dim": config.head_dim,
        "block_out_channels": list(config.channels),
        "cross_attention_dim": config.context_dim,
        "down_block_types": [f"{_cross(a)}DownBlock3D" for a in config.attention_levels],
        "in_channels": config.in_channels,
        "layers_per_block": config.blocks_per_level,
        "norm_eps": 1e-5,
        "norm_num_groups": config.groups,
        "out_channels": config.out_channels,
        "sample_size": sides[0] if sides[0] == sides[1] else sides,
        "up_block_types": [f"{_cross(a)}UpBlock3D" for a in reversed(config.attention_levels)],
    }


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


def _text_table(config: TextConfig) -> dict[str, Any]:
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
        "num_hidden_layers": config.layers,
        "pad_token_id": 1,
        "vocab_size": config.vocabulary,
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


def _configuration(unet: UNetConfig, content: Content, extension: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {
        "unet_in_dim": unet.in_channels,
        "unet_dim": unet.width,
        "unet_y_dim": 768,
        "unet_context_dim": unet.context_dim,
        "unet_out_dim": unet.out_channels,
        "unet_dim_mult": list(unet.multipliers),
        "unet_num_heads": unet.stem_heads,
        "unet_head_dim": unet.head_dim,
        "unet_res_blocks": unet.blocks_per_level,
        "unet_attn_scales": [0.5**i for i, attention in enumerate(unet.attention_levels) if attention],
        "unet_dropout": unet.dropout,
        "temporal_attention": "True",
        "num_timesteps": content.schedule.train_steps,
        "mean_type": "eps",
        "var_type": "fixed_small",
        "loss_type": "mse",
    }
    arguments = {
        "ckpt_clip": modelscope.TEXT_FILE,
        "ckpt_unet": modelscope.UNET_FILE,
        "ckpt_autoencoder": modelscope.VAE_FILE,
        "max_frames": content.spec.defaults.frames,
        "tiny_gpu": 1,
    }
    kind = "latent-text-to-video-synthesis"
    model = {"type": kind, "model_args": arguments, "model_cfg": sizes}
    if extension:
        model["extension"] = extension
    return {
        "framework": "pytorch",
        "task": modelscope.TASK,
        "model": model,
        "pipeline": {"type": kind},
    }


def _ldm_table(config: VAEConfig) -> dict[str, Any]:
    return {
        "in_channels": config.in_channels,
        "z_channels": config.latent_channels,
        "ch": config.width,
        "ch_mult": list(config.multipliers),
        "num_res_blocks": config.blocks_per_level,
        "scale_factor": config.scale,
    }


def _open_clip_table(config: TextConfig) -> dict[str, Any]:
    return {
        "context_length": config.context_length,
        "vocab_size": config.vocabulary,
        "width": config.width,
        "heads": config.heads,
        "layers": config.layers + 1,
        "mlp_ratio": config.mlp_width / config.width,
    }


def _write_bpe(path: Path, vocabulary: Vocabulary) -> None:
    merges = "".join(f"{a} {b}\n" for a, b in vocabulary.merges)
    path.write_bytes(gzip.compress(("#version: 0.2\n" + merges).encode(), mtime=0))


def _is_bpe_ordered(vocabulary: Vocabulary) -> bool:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / BPE_FILE
        _write_bpe(path, vocabulary)
        return same_vocabulary(read_bpe_file(path), vocabulary)


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
