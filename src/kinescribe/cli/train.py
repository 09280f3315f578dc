"""`kinescribe train`: a training run from a configuration file."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kinescribe.cli.terminal import Speaker
from kinescribe.errors import DataError

Config = Annotated[Path, Parameter(help="A TOML file, such as recipes/papercut.toml.")]
Settings = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="Change one key, as a.b=3; may be given many times.", negative=()),
]
Resume = Annotated[
    Literal["auto", "never"],
    Parameter(help="auto: go on with the run its folder holds; never: refuse a folder that holds one."),
]


def train(*, config: Config, settings: Settings = (), resume: Resume = "auto", terminal: Speaker) -> None:
    """Train a model from a configuration file.

    The run's folder gets the log, checkpoints, samples, the loss curve and the exported model. Ctrl-C ends a run at
    its next log line, with everything written; the same command goes on from there.
    """
    from kinescribe.train.config import load_config
    from kinescribe.train.runs import train as run

    folder = Path(load_config(config, settings).run.folder)
    held = (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir())
    if held and resume == "never":
        raise DataError(
            f"{folder} holds a run: use --resume auto, or another folder with --set run.folder=NAME"
        )
    terminal.note(f"{'going on with' if held else 'starting'} the run in {folder.absolute()}")
    progress = run(config, settings)
    terminal.result(f"{folder.absolute()}  {progress.step} steps, {progress.seconds:.0f} s")
