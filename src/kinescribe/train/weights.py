"""What a run reads and leaves: an autoencoder alone in a folder, or a whole model in the native layout."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kinescribe.catalog import CATALOG, DEFAULT_MODEL
from kinescribe.checkpoints.load import load_source
from kinescribe.checkpoints.native import describe_native, save_native
from kinescribe.checkpoints.staging import staged, write_tensors
from kinescribe.checkpoints.store import CONFIG_FILE
from kinescribe.diffusion.schedule import ScheduleConfig
from kinescribe.errors import DataError
from kinescribe.models.text import TextEncoder
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL, VAEConfig
from kinescribe.train.config import build

VAE_CONFIG_FILE = "vae.json"
VAE_FILE = "vae.safetensors"


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
            table = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["vae"]
        else:
            table = json.loads((folder / VAE_CONFIG_FILE).read_text(encoding="utf-8"))
        vae = AutoencoderKL(build(VAEConfig, table, "vae."))
        vae.load_state_dict(load_file(folder / VAE_FILE))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"no usable autoencoder in {folder} ({error}): give the export folder of a run of recipes/papercut_vae.toml"
        ) from error
    return vae


def write_model(
    folder: Path,
    unet: UNet,
    text: TextEncoder,
    vae: AutoencoderKL,
    tokenizer: Tokenizer,
    schedule: ScheduleConfig,
) -> None:
    """Write a whole model of the procedural world as a native folder, in fp16."""
    save_native(
        folder, unet=unet, vae=vae, text=text, tokenizer=tokenizer, schedule=schedule, spec=CATALOG[DEFAULT_MODEL],
        dtype=torch.float16, overwrite=True,
    )  # fmt: skip


def write_with_vae(folder: Path, model: Path, vae: AutoencoderKL) -> None:
    """Write the model of the native folder `model` anew, in fp16, with another autoencoder."""
    whole = load_source(describe_native(model), device=torch.device("cpu"), dtype=None)
    save_native(
        folder, unet=whole.unet, vae=vae, text=whole.text, tokenizer=whole.tokenizer, schedule=whole.schedule,
        spec=whole.spec, dtype=torch.float16, overwrite=True,
    )  # fmt: skip


def read_model(folder: Path, unet: UNet, text: TextEncoder, tokenizer: Tokenizer) -> None:
    """Fill UNet and text tower from a native folder of the same sizes and words; else `DataError`."""
    found = describe_native(folder)
    theirs = (found.unet.config, found.text.config, found.tokenizer.keep)
    ours = (unet.config, text.config, tokenizer.keep)
    for name, their, our in zip(("UNet", "text tower", "vocabulary"), theirs, ours, strict=True):
        if their != our:
            raise DataError(
                f"init_from={folder}: its {name} differs from the recipe's ({their} against {our})"
            )
    for name, network in (("unet", unet), ("text", text)):
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
