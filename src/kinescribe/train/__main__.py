"""`python -m kinescribe.train --config RECIPE [--set a.b=3 ...]`, alone or under torchrun."""

import argparse
import sys
from pathlib import Path

from kinescribe.errors import KinescribeError
from kinescribe.train.ranks import end
from kinescribe.train.runs import train


def main() -> int:
    """Train as the arguments say; the exit code of the error met, or 0."""
    parser = argparse.ArgumentParser(
        prog="python -m kinescribe.train", description="Train a model from a recipe."
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="a TOML recipe, e.g. recipes/papercut.toml"
    )
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE",
                        help="change one key of the recipe; may be given many times")  # fmt: skip
    arguments = parser.parse_args()
    try:
        train(arguments.config, arguments.settings)
    except KinescribeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    end(main())
