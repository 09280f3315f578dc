"""What a run reads and leaves: an autoencoder alone in a folder, or a whole model in the native layout."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kinescribe.catalog import ModelSpec
from kinescribe.checkpoints.load import load_source
from kinescribe.checkpoints.native import describe_native, save_native
from kinescribe.checkpoints.staging import staged, write_tensors
from kinescribe.checkpoints.store import CONFIG_FILE
from kinescribe.components import Components
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import DataError, WeightsError
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.train.config import build
from kinescribe.train.denoising import Denoising

VAE_CONFIG_FILE = "vae.json"
VAE_FILE = "vae.safetensors"
_TITLES = {"unet": "UNet", "text": "text tower", "conditions": "condition network", "vision": "image tower"}


def write_vae(folder: Path, vae: AutoencoderKL, config: VAEConfig) -> None:
    """Write the autoencoder in fp16 beside its `config`; a folder of before is replaced once the new one is whole."""
    with staged(folder, overwrite=True) as draft:
        write_tensors(draft / VAE_FILE, vae.state_dict().items(), dtype=torch.float16)
        text = json.dumps(dataclasses.asdict(config), indent=1) + "\n"
        (draft / VAE_CONFIG_FILE).write_text(text, encoding="utf-8")


def read_vae(folder: Path) -> AutoencoderKL:
    """The autoencoder of a folder written by `write_vae`, or of a native model folder, in float32.

    Raises `DataError` if the folder holds none.
    """
    try:
        if (folder / CONFIG_FILE).is_file():
            return read_whole(folder).vae
        table = json.loads((folder / VAE_CONFIG_FILE).read_text(encoding="utf-8"))
        vae = AutoencoderKL(build(VAEConfig, table, "vae."))
        vae.load_state_dict(load_file(folder / VAE_FILE))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, WeightsError) as error:
        raise DataError(
            f"no usable autoencoder in {folder} ({error}): give the export folder of a run of recipes/papercut_vae.toml"
        ) from error
    return vae


def write_model(
    folder: Path,
    model: Denoising,
    vae: AutoencoderKL,
    tokenizer: Tokenizer,
    schedule: ScheduleConfig,
    spec: ModelSpec,
) -> None:
    """Write a whole model of the procedural world as a native folder, in fp16."""
    save_native(
        folder, unet=model.unet, vae=vae, text=model.text, tokenizer=tokenizer, schedule=schedule,
        conditions=model.conditions, vision=model.vision, spec=spec, dtype=torch.float16, overwrite=True,
    )  # fmt: skip


def write_with_vae(folder: Path, model: Path, vae: AutoencoderKL) -> None:
    """Write the model of the native folder `model` anew, in fp16, with another autoencoder."""
    whole = read_whole(model, dtype=None)
    save_native(
        folder, unet=whole.unet, vae=vae, text=whole.text, tokenizer=whole.tokenizer, schedule=whole.schedule,
        conditions=whole.conditions, vision=whole.vision, spec=whole.spec, dtype=torch.float16, overwrite=True,
    )  # fmt: skip


def read_whole(folder: Path, dtype: torch.dtype | None = torch.float32) -> Components:
    """Everything that a native folder holds; raises `WeightsError` for anything wrong with it."""
    return load_source(describe_native(folder), device=torch.device("cpu"), dtype=dtype)


def read_model(folder: Path, model: Denoising, tokenizer: Tokenizer) -> None:
    """Fill the networks from a native folder of the same sizes and words; else `DataError`."""
    found = read_whole(folder)
    words = None if found.tokenizer is None else found.tokenizer.keep
    if words != tokenizer.keep:
        raise DataError(f"init_from={folder}: its vocabulary differs from the recipe's ({words})")
    for part, name in _TITLES.items():
        ours, theirs = getattr(model, part), getattr(found, part)
        if ours is None:
            continue
        if theirs is None or theirs.config != ours.config:
            told = "absent" if theirs is None else theirs.config
            raise DataError(
                f"init_from={folder}: its {name} differs from the recipe's ({told} against {ours.config})"
            )
        ours.load_state_dict(theirs.state_dict())
