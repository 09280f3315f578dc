"""VGen's checkpoints: bare files of one UNet under ModelScope's names, perhaps beside the other networks."""

import re
from pathlib import Path

from kinescribe.catalog import CATALOG, ModelSpec, find_spec
from kinescribe.checkpoints.families import family_of
from kinescribe.checkpoints.files import read_json
from kinescribe.checkpoints.modelscope import (
    CONFIGURATION,
    SCHEDULES,
    TEXT_FILE,
    UNET_FILE,
    VAE_FILE,
    Sizes,
    configuration,
    unet_config,
    unet_part,
    vae_config,
    vae_part,
    weights_at,
)
from kinescribe.checkpoints.modelscope_stages import (
    IMAGE_UNET_FILE,
    LIGHTNING_FILE,
    VIDEO_UNET_FILE,
    clip_parts,
    family_in,
)
from kinescribe.checkpoints.source import Source
from kinescribe.errors import WeightsError

WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
# The file cannot tell its diffusion, so only names whose training is known are recognised.
_KNOWN_FILES = {
    UNET_FILE: "modelscope-1.7b",
    "model_scope_0267000.pth": "modelscope-1.7b",
    "model_scope_v1-4_0600000.pth": "instructvideo-base",
    "i2vgen_xl_00854500.pth": "i2vgen-xl",
    "sr_step_110000_ema.pth": "vgen-sr600",
    IMAGE_UNET_FILE: "modelscope-image-to-video",
    VIDEO_UNET_FILE: "modelscope-video-to-video",
}
# Where VGen's own repository, and the hub's copy of it, keep the files.
_SUBFOLDER = "models"
_EMA_SHARD = re.compile(r"(ema_\d+)_rank\d+\.pth")


def is_vgen(path: Path) -> bool:
    """A weight file by itself, or a folder that holds one under a known name."""
    if path.is_file():
        return path.suffix in WEIGHT_SUFFIXES
    return known_file(path) is not None


def is_vgen_repository(folder: Path) -> bool:
    """A folder with one of VGen's own files whose configuration, as every hub folder has one, names no UNet."""
    file = known_file(folder)
    if file is None or file.name == UNET_FILE or not (folder / CONFIGURATION).is_file():
        return False
    try:
        return "ckpt_unet" not in read_json(folder / CONFIGURATION)["model"]["model_args"]
    except (LookupError, TypeError):
        return True
    except WeightsError:
        return False


def known_file(folder: Path) -> Path | None:
    """The first UNet of a known name in a folder or in its ``models``."""
    places = (place / name for place in (folder, folder / _SUBFOLDER) for name in _KNOWN_FILES)
    return next((path for path in places if path.is_file()), None)


def describe_vgen(path: Path, spec: ModelSpec | None) -> Source:
    """A bare UNet file, or a folder with one, as a source; ``spec`` says what it was trained for.

    The other networks are looked for beside it, under VGen's and under ModelScope's names.

    Raises:
        WeightsError: what the file was trained for is neither given nor known; the message lists the choices.
    """
    file = path if path.is_file() else known_file(path)
    assert file is not None
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
    folder, family = file.parent, family_of(spec)
    _require_same_kind(folder, spec)
    sizes = Sizes.of(configuration(folder))
    vae_name = LIGHTNING_FILE if weights_at(folder / LIGHTNING_FILE) else VAE_FILE
    return Source(
        layout="vgen",
        path=path,
        unet=unet_part(unet_config(folder, sizes.unet, family), folder, *_shards(file), family=family),
        vae=vae_part(vae_config(sizes.vae), folder, vae_name),
        schedule=SCHEDULES[spec.noise],
        spec=spec,
        **clip_parts(sizes, folder, _shards(file), TEXT_FILE, family=family),
    )


def _require_same_kind(folder: Path, spec: ModelSpec) -> None:
    """The configuration beside a bare file, if one names a task, must be of the same kind."""
    task = configuration(folder).get("task")
    # I2VGen-XL came later than the first stage and shares the name of its task.
    if task is not None and family_in(folder) != spec.kind:
        raise WeightsError(
            f"{folder}: its configuration is for the task {task!r}, but {spec.name} is for {spec.kind}: move the "
            "weights elsewhere and name a folder that completes them as base (--base DIR)"
        )


def _shards(file: Path) -> list[str]:
    """VGen spreads averaged weights over one file per rank; any of them stands for all."""
    match = _EMA_SHARD.fullmatch(file.name)
    if match is None:
        return [file.name]
    return sorted(path.name for path in file.parent.glob(f"{match[1]}_rank*.pth"))
