"""`python -m kinescribe.train.low_rank TUNED --base papercut --name papercut-quick --out DIR`: a tuned model as a LoRA.

What tuning changed in a UNet is written as products of low rank (Hu et al. 2021, arXiv 2106.09685), found by singular
value decomposition. Ranks differ by layer: of all singular values those are kept that hold most of the change for the
numbers that they cost. The folder holds the LoRA and shares all else with the embedded model that was tuned. Biases
and norms stay as they were.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kinescribe.catalog import ModelSpec, model_spec
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.lora_write import Sides, require_place, write_beside
from kinescribe.errors import DataError, KinescribeError


def low_rank(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], numbers: int) -> dict[str, Sides]:
    """By the name of each weight the sides of its change, `numbers` in all at most; weights without a rank are absent.

    Vectors are left out. Raises `DataError` for weights of other names or shapes.
    """
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (base, tuned)]
    if shapes[0] != shapes[1]:
        raise DataError("the tuned model has other weights than its base: name the model that it was made of")
    found = {}
    for name, before in base.items():
        if before.ndim > 1:
            change = (tuned[name].float() - before.float()).flatten(1)
            found[name] = torch.linalg.svd(change, full_matrices=False)
    ranks = _ranks({name: values for name, (_, values, _) in found.items()}, base, numbers)
    return {
        name: (values[:rank, None] * down[:rank], up[:, :rank].contiguous())
        for name, (up, values, down) in found.items()
        if (rank := ranks[name])
    }


def _ranks(values: Mapping[str, Tensor], weights: Mapping[str, Tensor], numbers: int) -> dict[str, int]:
    """How many singular values of each weight are worth their numbers."""
    costs = {name: sum(weights[name].flatten(1).shape) for name in values}
    gains = sorted(
        ((float(value) ** 2 / costs[name], name) for name, row in values.items() for value in row),
        reverse=True,
    )
    ranks, left = dict.fromkeys(values, 0), numbers
    for gain, name in gains:
        if gain == 0 or costs[name] > left:
            break
        ranks[name] += 1
        left -= costs[name]
    return ranks


def kept_share(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], sides: Mapping[str, Sides]) -> float:
    """The share of the change that the sides hold, in squares."""
    whole = sum(float((tuned[name].float() - base[name].float()).square().sum()) for name in base)
    return sum(float(down.square().sum()) for down, _ in sides.values()) / whole if whole else 1.0


def write_low_rank(tuned: Path, base: str, spec: ModelSpec, numbers: int, out: Path) -> float:
    """Write the folder, see `lora_write.write_beside`, whose errors it raises; the share of the change it holds."""
    require_place(out, base)
    before, after = (load_components(folder, dtype=torch.float32).unet for folder in (base, tuned))
    states = before.state_dict(), after.state_dict()
    sides = low_rank(*states, numbers)
    write_beside(out, tuned, base, spec, before.config, sides)
    return kept_share(*states, sides)


def main() -> int:
    """Write as the arguments say; the exit code of the error met, or 0."""
    parser = argparse.ArgumentParser(prog="python -m kinescribe.train.low_rank", description=__doc__)
    parser.add_argument("tuned", type=Path, help="the folder of the tuned model")
    parser.add_argument(
        "--base", default="papercut", help="the embedded model that was tuned (default papercut)"
    )
    parser.add_argument(
        "--name", default="papercut-quick", help="the row of the catalog (default papercut-quick)"
    )
    parser.add_argument("--numbers", type=int, default=500_000, help="numbers in all (default 500,000)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        kept = write_low_rank(
            arguments.tuned, arguments.base, model_spec(arguments.name), arguments.numbers, arguments.out
        )
    except KinescribeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{arguments.out}: {kept:.1%} of the change\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
