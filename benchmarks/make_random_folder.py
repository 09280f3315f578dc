"""Write a full-size model folder of random numbers, in the diffusers layout, for measuring speed and memory.

    python benchmarks/make_random_folder.py OUT [--dtype float16] [--device cuda] [--seed 0] [--to diffusers]

1.8 billion numbers; 3.7 GB in float16. Needs neither diffusers nor a network. The numbers are scaled so that
every activation stays finite in half precision; no branch is zero, as it would be in a fresh model.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints.export import write_diffusers
from kinescribe.checkpoints.export_modelscope import write_modelscope
from kinescribe.checkpoints.keymap import Aliases
from kinescribe.checkpoints.modelscope import TEXT, UNET, VAE
from kinescribe.checkpoints.native import write_native
from kinescribe.checkpoints.source import Config, PartName, part
from kinescribe.checkpoints.staging import Content, staged
from kinescribe.diffusion.schedule import MODELSCOPE
from kinescribe.models.tokenizer import Tokenizer

WRITERS = {"diffusers": write_diffusers, "modelscope": write_modelscope, "native": write_native}


def random_tensors(
    config: Config, generator: torch.Generator, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Tensors of one network under our names: unit norms, small biases, weights of variance 1 / fan-in."""
    for name, shape in part(
        config, layout=None, files=(), wanted="", aliases=Aliases()
    ).keymap.shapes.items():
        noise = torch.randn(shape, generator=generator, device=generator.device)
        if len(shape) == 1:
            yield name, (0.02 * noise + name.endswith("weight")).to(dtype)
        else:
            scale = 0.02 if name in ("tokens.weight", "positions") else 0.7 / math.sqrt(math.prod(shape[1:]))
            yield name, (scale * noise).to(dtype)


def make_random_folder(
    out: Path,
    *,
    to: str = "diffusers",
    dtype: torch.dtype = torch.float16,
    device: str = "cpu",
    seed: int = 0,
    configs: dict[PartName, Config] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the folder, whole or not at all; ``configs`` None means the sizes of the 1.7 B model."""
    chosen: dict[PartName, Config] = configs or {"unet": UNET, "vae": VAE, "text": TEXT}
    generator = torch.Generator(device).manual_seed(seed)
    content = Content(
        configs=chosen,
        tensors={name: random_tensors(config, generator, dtype) for name, config in chosen.items()},
        tokenizer=Tokenizer.clip(),
        schedule=MODELSCOPE,
        spec=CATALOG["modelscope-1.7b"],
    )
    with staged(out, overwrite=overwrite) as folder:
        WRITERS[to](folder, content, dtype=None)
    return out


def main() -> None:
    """Parse, write, tell how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=sorted(WRITERS), default="diffusers")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    dtype = getattr(torch, options.dtype)
    make_random_folder(
        options.out,
        to=options.to,
        dtype=dtype,
        device=options.device,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e9:.2f} GB in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
