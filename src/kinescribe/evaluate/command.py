"""What the examinations' command lines have in common: arguments, the model and its judge, and the files they leave."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from kinescribe.checkpoints.load import load_components
from kinescribe.components import Components
from kinescribe.errors import KinescribeError
from kinescribe.evaluate.generate import Making
from kinescribe.pipelines.device import pick_device, pick_dtype
from kinescribe.world.judge import ASSETS, Judge


def parser(prog: str, what: str, *, model: str, count: int, batch: int) -> argparse.ArgumentParser:
    """The arguments of an examination."""
    found = argparse.ArgumentParser(prog=f"python -m kinescribe.evaluate.{prog}", description=what)
    found.add_argument("--model", default=model, help=f"a catalog name or a folder (default {model})")
    found.add_argument(
        "--judge", type=Path, default=ASSETS, help="folder of the judge (default: the package's)"
    )
    found.add_argument(
        "--out", type=Path, required=True, help="folder for report.json, report.md and the sheets"
    )
    found.add_argument("--count", type=int, default=count, help=f"held-out clips (default {count})")
    found.add_argument("--steps", type=int, help="default: the model's")
    found.add_argument("--guidance", type=float, help="default: the model's")
    found.add_argument("--sampler", help="default: the model's")
    found.add_argument("--batch", type=int, default=batch, help=f"clips made at once (default {batch})")
    found.add_argument("--seed", type=int, default=2024)
    found.add_argument("--device", default="auto")
    found.add_argument("--dtype", default="auto")
    return found


def loaded(arguments: argparse.Namespace, model: str) -> Components:
    """A model on the device and in the number format that the arguments name."""
    device = pick_device(arguments.device)
    return load_components(model, device=device, dtype=pick_dtype(arguments.dtype, device))


def judge_of(arguments: argparse.Namespace) -> Judge:
    """The judge of the arguments, on their device."""
    return Judge.load(arguments.judge, device=pick_device(arguments.device))


def making_of(arguments: argparse.Namespace, components: Components) -> Making:
    """The model's defaults, changed by the arguments."""
    chosen = {name: getattr(arguments, name) for name in ("steps", "guidance", "sampler")}
    changes = {name: value for name, value in chosen.items() if value is not None}
    return dataclasses.replace(Making.of(components.spec, batch=arguments.batch), **changes)


def progress(total: int) -> Callable[[int], None]:
    """What tells the number of finished clips on the console."""
    return lambda done: _tell(f"\r{done} of {total} clips" + ("\n" if done >= total else ""))


def write(out: Path, name: str, figures: object, page: str) -> None:
    """Figures as JSON and as a page, which is shown too."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(page, encoding="utf-8")
    sys.stdout.write(page)


def exit_code(work: Callable[[], None]) -> int:
    """Do the work; 0, or the exit code of the error met, told in one line."""
    try:
        work()
    except KinescribeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(text)
