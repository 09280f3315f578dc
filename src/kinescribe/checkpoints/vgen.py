"""VGen's checkpoints: bare files of one UNet under ModelScope's names, perhaps beside the other two networks."""

import re
from pathlib import Path

from kinescribe.catalog import CATALOG, ModelSpec, find_spec
from kinescribe.checkpoints.files import inside, read_json
from kinescribe.checkpoints.modelscope import (
    CONFIGURATION,
    SCHEDULES,
    TEXT_FILE,
    UNET_FILE,
    VAE_FILE,
    require_text_to_video,
    text_config,
    text_part,
    unet_config,
    unet_part,
    vae_config,
    vae_part,
    weights_at,
)
from kinescribe.checkpoints.source import Source, TokenizerFiles
from kinescribe.errors import WeightsError

WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
VGEN_VAE_FILE = "v2-1_512-ema-pruned.ckpt"
# The file cannot tell its diffusion, so only names whose training is known are recognised.
_KNOWN_FILES = {
    UNET_FILE: "modelscope-1.7b",
    "model_scope_0267000.pth": "modelscope-1.7b",
    "model_scope_v1-4_0600000.pth": "instructvideo-base",
}
_EMA_SHARD = re.compile(r"(ema_\d+)_rank\d+\.pth")


def is_vgen(path: Path) -> bool:
    """A weight file by itself, or a folder that holds one under a known name."""
    if path.is_file():
        return path.suffix in WEIGHT_SUFFIXES
    return any((path / name).is_file() for name in _KNOWN_FILES)


def describe_vgen(path: Path, spec: ModelSpec | None) -> Source:
    """A bare UNet file, or a folder with one, as a source; ``spec`` says what it was trained for.

    The autoencoder and the text tower are looked for beside it, under VGen's and under ModelScope's names.

    Raises:
        WeightsError: what the file was trained for is neither given nor known; the message lists the choices.
    """
    file = path if path.is_file() else next(path / name for name in _KNOWN_FILES if (path / name).is_file())
    spec = spec or find_spec(_KNOWN_FILES.get(file.name, file.stem))
    if spec is None:
        choices = ", ".join(name for name, row in CATALOG.items() if row.noise in SCHEDULES)
        raise WeightsError(
            f"{file}: a bare weight file does not say how it was trained: name the model it is, one of {choices} (--as)"
        )
    if spec.noise not in SCHEDULES:
        raise WeightsError(
            f"{file}: {spec.name} is no model of bare weight files: see 'kinescribe models list'"
        )
    folder = file.parent
    sizes = read_json(folder / CONFIGURATION) if (folder / CONFIGURATION).is_file() else {}
    require_text_to_video(folder, sizes)
    model = sizes.get("model", {})
    extension = model.get("extension", {})
    text = text_config(extension.get("clip"))
    vae_name = VGEN_VAE_FILE if weights_at(folder / VGEN_VAE_FILE) else VAE_FILE
    return Source(
        layout="vgen",
        path=path,
        unet=unet_part(unet_config(folder, model.get("model_cfg")), folder, *_shards(file)),
        vae=vae_part(vae_config(extension.get("vae_ddconfig")), folder, vae_name),
        text=text_part(text, folder, TEXT_FILE),
        tokenizer=TokenizerFiles(
            files=(inside(folder, extension["clip_bpe"]),) if "clip_bpe" in extension else (),
            context_length=text.context_length,
        ),
        schedule=SCHEDULES[spec.noise],
        spec=spec,
    )


def _shards(file: Path) -> list[str]:
    """VGen spreads averaged weights over one file per rank; any of them stands for all."""
    match = _EMA_SHARD.fullmatch(file.name)
    if match is None:
        return [file.name]
    return sorted(path.name for path in file.parent.glob(f"{match[1]}_rank*.pth"))
