"""Writing ModelScope's folders, whose weights are pickles, for people who use that library."""

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints import modelscope, modelscope_stages
from kinescribe.checkpoints.export import lost_defaults, refuse, renamed, write_json
from kinescribe.checkpoints.families import Family, family_of
from kinescribe.checkpoints.source import same_vocabulary
from kinescribe.checkpoints.staging import Content, converted
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.models.image_conditions import ImageConditionsConfig
from kinescribe.models.text import TextConfig
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNetConfig
from kinescribe.models.vae import VAEConfig
from kinescribe.models.vision import VisionConfig
from kinescribe.models.vocabulary import Vocabulary, read_bpe_file

BPE_FILE = "bpe_simple_vocab.txt.gz"
_UNET_FILES: dict[Family, str] = {
    "text-to-video": modelscope.UNET_FILE,
    "image-to-video": modelscope_stages.IMAGE_UNET_FILE,
    "video-to-video": modelscope_stages.VIDEO_UNET_FILE,
}


def write_modelscope(folder: Path, content: Content, *, dtype: torch.dtype | None) -> tuple[str, ...]:
    """Fill an empty folder in the ModelScope layout; what it cannot hold, in words.

    Raises:
        WeightsError: the layout cannot express the model at all.
    """
    family = family_of(content.spec)
    refuse("modelscope", _not_for_modelscope(content, family))
    first = family == "text-to-video"
    unet_file = _UNET_FILES[family]
    vae_file = modelscope.VAE_FILE if first else modelscope_stages.LIGHTNING_FILE
    unet = dict(converted(_unet(content), dtype=dtype))
    torch.save(unet if first else {"state_dict": unet}, folder / unet_file)
    vae = dict(converted(renamed(content, "vae", "modelscope", "first_stage_model."), dtype=dtype))
    torch.save({"state_dict": vae}, folder / vae_file)
    torch.save(dict(converted(_towers(content), dtype=dtype)), folder / modelscope.TEXT_FILE)
    document = _configuration(content) if first else _stage_configuration(content, family)
    document["model"]["model_args"] |= {
        "ckpt_clip": modelscope.TEXT_FILE,
        "ckpt_unet": unet_file,
        "ckpt_autoencoder": vae_file,
    }
    words = _write_words(folder, content.tokenizer)
    if words is not None:
        document["model"].setdefault("extension", {})["clip_bpe"] = words
    write_json(folder / modelscope.CONFIGURATION, document)
    kept = "the frame count alone is kept" if first else "frames and size alone are kept"
    return (*lost_defaults(content, kept), *_lost_spacing(content.schedule, family), _lost_towers(family))


def _unet(content: Content) -> Iterator[tuple[str, Tensor]]:
    yield from renamed(content, "unet", "modelscope")
    if "conditions" in content.configs:
        yield from renamed(content, "conditions", "modelscope")


def _towers(content: Content) -> Iterator[tuple[str, Tensor]]:
    if "text" in content.configs:
        yield from renamed(content, "text", "modelscope")
    if "vision" in content.configs:
        yield from renamed(content, "vision", "modelscope")


def _schedule_of(family: Family) -> ScheduleConfig:
    row = CATALOG[modelscope_stages.ROWS.get(family, "modelscope-1.7b")]
    return modelscope.SCHEDULES[row.noise]


def _not_for_modelscope(content: Content, family: Family) -> list[str]:
    if family == "i2vgen-xl":
        return ["ModelScope has I2VGen-XL as VGen's bare files, without a folder's configuration"]
    reasons = []
    wanted, given = _schedule_of(family), content.schedule
    fields = ("kind", "beta_start", "beta_end", "prediction", "zero_terminal_snr")
    changed = [name for name in fields if getattr(given, name) != getattr(wanted, name)]
    if family != "text-to-video" and given.train_steps != wanted.train_steps:
        changed.append("train_steps")
    if changed:
        reasons.append(f"its schedule differs in {', '.join(changed)}, which no file there says")
    unet, vae = content.configs["unet"], content.configs["vae"]
    assert isinstance(unet, UNetConfig) and isinstance(vae, VAEConfig)
    if unet.row_padding != (2 if family == "video-to-video" else 1):
        reasons.append(f"its strided convolutions pad {unet.row_padding} rows")
    if content.spec.refinement is not None and content.spec.refinement.filtered_skips:
        reasons.append("it filters its decoder's skips")
    if unet.groups != modelscope.UNET.groups or vae.groups != modelscope.VAE.groups:
        reasons.append("its normalisations have other groups than 32")
    return reasons + _no_words(content.tokenizer)


def _no_words(tokenizer: Tokenizer | None) -> list[str]:
    if tokenizer is None:
        return []
    if tokenizer.keep is not None:
        return ["its vocabulary is compact"]
    if tokenizer.padded_with_end:
        return ["its texts are filled up with the mark of their end, there with id 0"]
    if not _is_bpe_ordered(tokenizer.full):
        return ["the ids of its vocabulary do not follow the merge rules"]
    return []


def _lost_spacing(schedule: ScheduleConfig, family: Family) -> tuple[str, ...]:
    usual = _schedule_of(family)
    fields = [
        name
        for name in ("spacing", "offset", "final", "shift")
        if getattr(schedule, name) != getattr(usual, name)
    ]
    return (f"schedule: {', '.join(fields)}",) if fields else ()


def _lost_towers(family: Family) -> str:
    if family == "image-to-video":
        return (
            "text tower: this model has none, the file holds the image tower alone; "
            "ModelScope's own loader asks for both, ours does not"
        )
    return (
        "text tower: the layer that does not run, the projection and the image tower are not there; "
        "ModelScope's own loader asks for them, ours does not"
    )


def _configuration(content: Content) -> dict[str, Any]:
    unet, vae, text = content.configs["unet"], content.configs["vae"], content.configs["text"]
    assert isinstance(unet, UNetConfig) and isinstance(vae, VAEConfig) and isinstance(text, TextConfig)
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
    arguments = {"max_frames": content.spec.defaults.frames, "tiny_gpu": 1}
    kind = "latent-text-to-video-synthesis"
    model: dict[str, Any] = {"type": kind, "model_args": arguments, "model_cfg": sizes}
    if vae != modelscope.VAE:
        model.setdefault("extension", {})["vae_ddconfig"] = _ldm_table(vae)
    if text != modelscope.TEXT:
        model.setdefault("extension", {})["clip"] = {"text_cfg": _text_table(text)}
    return {
        "framework": "pytorch",
        "task": modelscope.TASK,
        "model": model,
        "pipeline": {"type": kind},
    }


def _stage_configuration(content: Content, family: Family) -> dict[str, Any]:
    defaults, picture = content.spec.defaults, content.spec.picture
    run: dict[str, Any] = {
        "batch_size": 1,
        "target_fps": 8 if picture is None else picture.condition_fps,
        "max_frames": defaults.frames,
        "latent_hei": defaults.height // 8,
        "latent_wid": defaults.width // 8,
    }
    if picture is None and (defaults.height, defaults.width) != (720, 1280):
        run["target_size"] = [defaults.height, defaults.width]
    arguments = {} if picture else {"solver_mode": "fast" if defaults.sampler != "heun" else "normal"}
    task = next(name for name, theirs in modelscope_stages.TASKS.items() if theirs == family)
    pipeline = "image-to-video-task-pipeline" if picture else "video-to-video-pipeline"
    return {
        "framework": "pytorch",
        "task": task,
        "model": {
            "type": modelscope_stages.TYPES[family],
            "model_args": arguments,
            "model_cfg": run | _stage_sizes(content, family),
        },
        "pipeline": {"type": pipeline},
    }


def _stage_sizes(content: Content, family: Family) -> dict[str, Any]:
    """Sizes of the networks where they are not the published ones."""
    unet, vae, conditions = content.configs["unet"], content.configs["vae"], content.configs.get("conditions")
    assert isinstance(unet, UNetConfig) and isinstance(vae, VAEConfig)
    tables: dict[str, Any] = {}
    published = conditions in (None, modelscope.IMAGE_TO_VIDEO)
    if unet != modelscope.unet_config(Path(), None, family) or not published:
        image = conditions if isinstance(conditions, ImageConditionsConfig) else modelscope.IMAGE_TO_VIDEO
        tables["unet"] = _unet_table(unet) | {"y_dim": image.image_width, "num_tokens": image.image_tokens}
    if vae != modelscope.VAE:
        tables["autoencoder"] = _ldm_table(vae)
    clip = _clip_table(content.configs.get("text"), content.configs.get("vision"))
    return tables | ({"clip": clip} if clip else {})


def _unet_table(unet: UNetConfig) -> dict[str, Any]:
    return {
        "in_dim": unet.in_channels,
        "dim": unet.width,
        "context_dim": unet.context_dim,
        "out_dim": unet.out_channels,
        "dim_mult": list(unet.multipliers),
        "num_heads": unet.stem_heads,
        "head_dim": unet.head_dim,
        "num_res_blocks": unet.blocks_per_level,
        "attn_scales": [0.5**i for i, attention in enumerate(unet.attention_levels) if attention],
        "dropout": unet.dropout,
        "temporal_attention": True,
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


def _text_table(config: TextConfig) -> dict[str, Any]:
    return {
        "context_length": config.context_length,
        "vocab_size": config.vocabulary,
        "width": config.width,
        "heads": config.heads,
        "layers": config.layers + 1,
        "mlp_ratio": config.mlp_width / config.width,
    }


def _clip_table(text: object, vision: object) -> dict[str, Any]:
    """Sizes of the towers that there are; nothing where they are the published ones."""
    table: dict[str, Any] = {}
    if isinstance(text, TextConfig) and text != modelscope.TEXT:
        table["text_cfg"] = _text_table(text)
    if isinstance(vision, VisionConfig) and vision != modelscope.VIT_H:
        table["embed_dim"] = vision.embedding_width
        table["vision_cfg"] = {
            "image_size": vision.size,
            "layers": vision.layers,
            "width": vision.width,
            "head_width": vision.width // vision.heads,
            "patch_size": vision.patch,
            "mlp_ratio": vision.mlp_width / vision.width,
        }
    return table


def _write_words(folder: Path, tokenizer: Tokenizer | None) -> str | None:
    """Write a vocabulary that is not CLIP's; the name of the file, if one was written."""
    if tokenizer is None or same_vocabulary(tokenizer.full, Tokenizer.clip().full):
        return None
    _write_bpe(folder / BPE_FILE, tokenizer.full)
    return BPE_FILE


def _write_bpe(path: Path, vocabulary: Vocabulary) -> None:
    merges = "".join(f"{a} {b}\n" for a, b in vocabulary.merges)
    path.write_bytes(gzip.compress(("#version: 0.2\n" + merges).encode(), mtime=0))


def _is_bpe_ordered(vocabulary: Vocabulary) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / BPE_FILE
        _write_bpe(path, vocabulary)
        return same_vocabulary(read_bpe_file(path), vocabulary)
