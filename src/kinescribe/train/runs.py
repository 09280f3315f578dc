"""From a recipe to a finished run: read the configuration, take a place among the processes, build the stage, loop."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from kinescribe.errors import KinescribeError, WriteError
from kinescribe.train.config import DistillTraining, Training, VAETraining, as_table, load_config
from kinescribe.train.diffusion import DiffusionStage
from kinescribe.train.distill import DistillStage
from kinescribe.train.loop import Loop, Progress, fingerprint
from kinescribe.train.ranks import Ranks, join
from kinescribe.train.vae import VAEStage

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def train(recipe: Path, settings: Sequence[str] = ()) -> Progress:
    """Run a recipe to its end; where its folder holds an unfinished run of the same recipe, go on with that.

    Raises `DataError` for a faulty recipe, folder or data, `NumbersError` if the loss stays undefined, `WriteError`
    for a full disk, `KinescribeError` if another process of the run is lost.
    """
    config = load_config(recipe, settings)
    ranks = join(config.run.device)
    try:
        with ranks.together():
            return run(config, ranks)
    except OSError as error:
        if isinstance(error, KinescribeError) or error.errno not in NO_ROOM:
            raise
        raise WriteError(
            f"{config.run.folder}: cannot be written ({error.strerror}): free space there; "
            "the last checkpoint is whole, and the same command goes on from it"
        ) from error
    finally:
        ranks.leave()


def run(config: Training, ranks: Ranks) -> Progress:
    """Run a configuration in this process, as one of `ranks.world`."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    table = as_table(config)
    stage = _stage(config, ranks)
    try:
        loop = Loop(stage, config.run, config.optimizer, ranks, fingerprint(table))
        parameters = sum(parameter.numel() for parameter in stage.model.parameters())
        loop.log.write(
            "start", stage=config.stage, parameters=parameters, world=ranks.world, device=str(ranks.device)
        )
        if ranks.first:
            (loop.folder / "config.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        return loop.run()
    finally:
        stage.close()


def _stage(config: Training, ranks: Ranks) -> VAEStage | DiffusionStage | DistillStage:
    if isinstance(config, VAETraining):
        return VAEStage(config, ranks)
    if isinstance(config, DistillTraining):
        return DistillStage(config, ranks)
    return DiffusionStage(config, ranks)
