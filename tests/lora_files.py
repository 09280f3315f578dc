"""LoRA files as the programs write them, and what they must do, made from the names in published model files alone.

A `Factors` table goes from a layer's name in such a file to its two sides. `merged` adds the products to the tensors
of the model's files, so that what a model is with a LoRA is known without any of the code under test.
"""

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import goldens

Factors = dict[str, tuple[Tensor, Tensor]]
"""By `unet.NAME` and `text_encoder.NAME`: down `(r, in, ...)` and up `(out, r, 1 ...)`."""

RANK = 2
UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
LOOKED_UP = ("token_embedding", "position_embedding")


def base() -> Path:
    """The model that the LoRAs are for, in the diffusers layout."""
    return goldens.folder("text_to_video/diffusers")


@functools.cache
def weights() -> dict[str, Tensor]:
    """Weights of the model's layers, in float32, by `unet.NAME` and `text_encoder.NAME`."""
    found = {}
    for prefix, file in (("unet", UNET), ("text_encoder", TEXT)):
        for name, tensor in load_file(base() / file).items():
            if name.endswith(".weight") and tensor.ndim > 1 and not any(word in name for word in LOOKED_UP):
                found[f"{prefix}.{name.removesuffix('.weight')}"] = tensor.float()
    return found


def factors(
    chosen: Callable[[str], bool] = lambda _: True, *, seed: int = 0, size: float = 0.1, rank: int = RANK
) -> Factors:
    """Random sides for the layers that are chosen; those of a layer do not depend on which others are."""
    made = {}
    for number, (name, weight) in enumerate(sorted(weights().items())):
        if not chosen(name):
            continue
        generator = torch.Generator().manual_seed(1000 * seed + number)
        down = torch.randn(rank, *weight.shape[1:], generator=generator) * size
        up = torch.randn(len(weight), rank, *(1,) * (weight.ndim - 2), generator=generator) * size
        made[name] = down, up
    return made


def product(down: Tensor, up: Tensor) -> Tensor:
    return torch.einsum("or,r...->o...", up.flatten(1), down)


def merged(changes: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the model's files with changes added to them, in float32, by `unet.NAME` and so on."""
    found = {}
    for prefix, file in (("unet", UNET), ("text_encoder", TEXT)):
        found |= {f"{prefix}.{name}": tensor.float() for name, tensor in load_file(base() / file).items()}
    for layer, change in changes:
        found[f"{layer}.weight"] += change
    return found


def products(table: Factors, scale: float = 1.0) -> list[tuple[str, Tensor]]:
    return [(name, scale * product(down, up)) for name, (down, up) in table.items()]


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def diffusers(path: Path, table: Factors, metadata: dict[str, str] | None = None) -> Path:
    """`pytorch_lora_weights.safetensors` of a current diffusers."""
    state = {}
    for name, (down, up) in table.items():
        state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return save(path, state, metadata)


def old_diffusers(path: Path, table: Factors) -> Path:
    """The attention processors of diffusers before 0.20: the q, k, v and out of the UNet."""
    state = {}
    for name, (down, up) in table.items():
        attention, _, part = name.removesuffix(".0").rpartition(".")
        where = f"{attention}.processor.{part}_lora"
        state |= {f"{where}.down.weight": down, f"{where}.up.weight": up}
    return save(path, state)


def middle_diffusers(path: Path, table: Factors) -> Path:
    """diffusers 0.20 to 0.25: `.lora.` in the UNet, `.lora_linear_layer.` in the tower."""
    state = {}
    for name, (down, up) in table.items():
        word = "lora" if name.startswith("unet.") else "lora_linear_layer"
        state |= {f"{name}.{word}.down.weight": down, f"{name}.{word}.up.weight": up}
    return save(path, state)


def peft(folder: Path, table: Factors, **config: object) -> Path:
    """The folder that `PeftModel.save_pretrained` writes of a UNet."""
    state = {}
    for name, (down, up) in table.items():
        where = f"base_model.model.{name.removeprefix('unet.')}"
        state |= {f"{where}.lora_A.weight": down, f"{where}.lora_B.weight": up}
    save(folder / "adapter_model.safetensors", state)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, **config}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def kohya(path: Path, table: Factors, alpha: float | None = None) -> Path:
    """A file of kohya-ss's scripts: underscores for dots, and an alpha for each layer."""
    state = {}
    for name, (down, up) in table.items():
        part, _, layer = name.partition(".")
        where = ("lora_unet_" if part == "unet" else "lora_te_") + layer.replace(".", "_")
        state |= {f"{where}.lora_down.weight": down, f"{where}.lora_up.weight": up}
        if alpha is not None:
            state[f"{where}.alpha"] = torch.tensor(alpha)
    return save(path, state)


def cloneofsimo(path: Path, table: Factors, order: Iterable[str]) -> Path:
    """The bare list that `save_lora_weight` writes: up, down, up, down ... in the order of the model's layers."""
    pairs = [table[name] for name in order]
    torch.save([torch.nn.Parameter(side) for down, up in pairs for side in (up, down)], path)
    return path


def cloneofsimo_named(path: Path, table: Factors, order: Iterable[str], classes: list[str]) -> Path:
    """What `save_safeloras` writes: numbers for names, the classes in the metadata."""
    state, metadata = {}, {"unet": json.dumps(classes)}
    for number, name in enumerate(order):
        down, up = table[name]
        state |= {f"unet:{number}:up": up, f"unet:{number}:down": down}
        metadata[f"unet:{number}:rank"] = str(len(down))
    return save(path, state, metadata)
