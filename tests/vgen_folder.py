"""The stored I2VGen-XL folder as VGen keeps that model: one bare file, two neighbours, sizes in a JSON.

The names of the UNet are made here, by the rules of the reference, and not by the tables that are under test;
those of the autoencoder and of CLIP are in other stored folders as they are.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from kinescribe.checkpoints.detect import describe
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.source import Part, part

BLOCKS = 2  # residual blocks of a level of the encoder
UNET_FILE = "i2vgen_xl_00854500.pth"
RENAMED = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^transformer_in\.", "input_blocks.0.1."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^image_latents_proj_in\.", "local_image_concat."),
    (r"^image_latents_context_embedding\.", "local_image_embedding."),
    (r"^image_latents_temporal_encoder\.norm1\.", "local_temporal_encoder.layers.0.0.norm."),
    (
        r"^image_latents_temporal_encoder\.attn1\.to_out\.0\.",
        "local_temporal_encoder.layers.0.0.fn.to_out.0.",
    ),
    (r"^image_latents_temporal_encoder\.ff\.net\.0\.proj\.", "local_temporal_encoder.layers.0.1.net.0.0."),
    (r"^image_latents_temporal_encoder\.ff\.net\.2\.", "local_temporal_encoder.layers.0.1.net.2."),
)
INSIDE = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "temp_attentions.0": "2", "resnets.1": "3"}
MIDDLE |= {"temp_convs.0": "0", "temp_convs.1": "3"}


def write_vgen(source: Path, target: Path) -> Path:
    """Write the folder and return it."""
    target.mkdir(parents=True)
    torch.save({"state_dict": unet_of(source), "step": 854500}, target / UNET_FILE)
    whole = describe(source, variant=None, spec=None)
    assert whole.text is not None and whole.vision is not None and whole.tokenizer is not None
    vae = {f"first_stage_model.{name}": tensor for name, tensor in foreign(whole.vae).items()}
    torch.save({"state_dict": vae, "global_step": 1}, target / "v2-1_512-ema-pruned.ckpt")
    torch.save(foreign(whole.text) | foreign(whole.vision), target / "open_clip_pytorch_model.bin")
    (target / "words.txt").write_text("#version: 0.2\n")
    (target / "configuration.json").write_text(json.dumps(SIZES))
    return target


def unet_of(source: Path) -> dict[str, Tensor]:
    """The UNet and its conditions under VGen's names."""
    theirs = load_file(source / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    encoder = "image_latents_temporal_encoder.attn1.to_"
    rows = [theirs.pop(f"{encoder}{part}.weight") for part in "qkv"]
    state = {"local_temporal_encoder.layers.0.0.fn.to_qkv.weight": torch.cat(rows)}
    for name, tensor in theirs.items():
        along_time = "temp_attentions" in name or name.startswith("transformer_in")
        projection = along_time and re.search(r"\.proj_(in|out)\.weight$", name)
        state[vgen_name(name)] = tensor[..., None] if projection else tensor
    return state


def vgen_name(name: str) -> str:
    """VGen's name of a tensor of diffusers' I2VGenXLUNet."""
    for pattern, replacement in RENAMED:
        name, count = re.subn(pattern, replacement, name)
        if count:
            return name
    match = re.match(r"mid_block\.(\w+\.\d)\.(.*)", name)
    if match:
        return f"middle_block.{MIDDLE[match[1]]}.{inside(match[1], match[2])}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    if not match:
        return name
    side, level, kind, j, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (BLOCKS + 1)}.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":  # of the coarsest level, which has no attention
        return f"output_blocks.{level * (BLOCKS + 1) + BLOCKS}.1.{rest}"
    number = 1 + level * (BLOCKS + 1) + j if side == "down" else level * (BLOCKS + 1) + j
    place = {"resnets": 0, "temp_convs": 0, "attentions": 1, "temp_attentions": 2}[kind]
    return f"{'input' if side == 'down' else 'output'}_blocks.{number}.{place}.{inside(kind, rest)}"


def inside(kind: str, rest: str) -> str:
    """The part of a name within one module of a block."""
    if kind.startswith("temp_convs"):
        return f"temopral_conv.{rest}"
    head, _, tail = rest.partition(".")
    return f"{INSIDE[head]}.{tail}" if kind.startswith("resnets") else rest


def foreign(one: Part) -> dict[str, Tensor]:
    """A network's tensors under ModelScope's names."""
    weights, names = one.open()
    ours = dict(one.keymap.to_ours(lambda name: weights.read(names[name])))
    there = part(one.config, layout="modelscope", files=(), wanted="", aliases=Aliases())
    return {name: tensor.contiguous() for name, tensor in there.keymap.to_foreign(ours.__getitem__)}


SIZES = {
    "task": "image-to-video",
    "model": {
        "extension": {"clip_bpe": "words.txt"},
        "model_cfg": {
            "unet": {
                "in_dim": 4, "dim": 32, "y_dim": 16, "context_dim": 16, "out_dim": 4, "dim_mult": [1, 1],
                "num_heads": 8, "head_dim": 8, "num_res_blocks": 2, "attn_scales": [1.0],
            },
            "autoencoder": {
                "in_channels": 3, "z_channels": 4, "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1,
            },
            "clip": {
                "embed_dim": 16,
                "text_cfg": {"context_length": 77, "vocab_size": 514, "width": 16, "heads": 2, "layers": 3},
                "vision_cfg": {
                    "image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16,
                },
            },
        },
    },
}  # fmt: skip
