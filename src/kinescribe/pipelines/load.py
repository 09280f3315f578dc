"""``kinescribe.load``: a name or a folder in, a pipeline out."""

from pathlib import Path

import torch

from kinescribe.catalog import DEFAULT_MODEL
from kinescribe.checkpoints.load import load_components
from kinescribe.pipelines.device import pick_device, pick_dtype
from kinescribe.pipelines.memory import stage
from kinescribe.pipelines.text_to_video import TextToVideoPipeline


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    variant: str | None = None,
) -> TextToVideoPipeline:
    """Load a model by catalog name, or from a folder in any published layout; never touches the network.

    ``device`` is auto, cuda, cuda:1, mps or cpu; ``dtype`` auto, float16, bfloat16 or float32; ``variant``
    names a set of files beside the plain one (fp16). Raises ``WeightsError`` for anything wrong with the
    files, ``OptionError`` for a device or dtype that is not there, ``MemoryLimitError`` if it does not fit.
    """
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    with stage("loading"):
        components = load_components(model, device=where, dtype=kind, variant=variant)
        if dtype in ("auto", "float16") and where.type == "cpu":
            components.vae.float()  # small beside the UNet, and bfloat16 would show as banding
            components.text.float()
    return TextToVideoPipeline(components)
