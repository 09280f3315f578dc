import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from kinescribe.errors import DataError, NumbersError
from kinescribe.train.config import OptimizerConfig, RunConfig
from kinescribe.train.loop import Loop, Progress, fingerprint, learning_rate
from kinescribe.train.ranks import join
from kinescribe.train.report import read_log

OPTIMIZER = OptimizerConfig(learning_rate=0.05, warmup_steps=2, ema_decay=0.5)


class Line:
    """Fits y = 2 x, with dropout so that the global random state matters too."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1))
        self.samples = 16
        self.poison: set[int] = set()
        self.at_step: dict[int, Any] = {}
        self.prepared: list[int] = []

    def prepare(self, step: int) -> None:
        self.prepared.append(step)
        if step in self.at_step:
            self.at_step[step]()

    def losses(self, model: nn.Module, step: int, generator: Generator) -> dict[str, Tensor]:
        x = torch.randn(16, 1, generator=generator)
        loss = (model(x) - 2 * x).square().mean()
        return {"loss": loss * float("nan") if step in self.poison else loss}

    def compile(self) -> None:
        raise AssertionError("not asked for")

    def validate(self, model: nn.Module) -> dict[str, Tensor]:
        return {"loss": (model(torch.ones(1, 1)) - 2).square().mean()}

    def show(self, model: nn.Module, picture: Path) -> None:  # noqa: ARG002
        picture.touch()

    def export(self, model: nn.Module, folder: Path) -> None:  # noqa: ARG002
        folder.mkdir(parents=True, exist_ok=True)


def loop(stage: Line, folder: Path, config: str = "c", **run: Any) -> Loop:
    settings = {"steps": 20, "log_steps": 5, "device": "cpu"} | run
    return Loop(stage, RunConfig(folder=str(folder), **settings), OPTIMIZER, join("cpu"), config)


def weights(stage: Line) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in stage.model.state_dict().items()}


class Killed(Exception):
    pass


def kill() -> None:
    raise Killed


def test_learning_rate_warms_up_and_decays_to_its_share() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, final_share=0.1)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 10, 0.0) == pytest.approx(1.0)
    assert learning_rate(config, 99, 0.5) == pytest.approx(0.55)
    assert learning_rate(config, 99, 1.0) == pytest.approx(0.1)


def test_the_nearer_limit_counts() -> None:
    run = RunConfig(folder="x", steps=100, minutes=1.0)
    assert Progress(step=50, seconds=6.0).share(run) == 0.5
    assert Progress(step=5, seconds=60.0).share(run) == 1.0


def test_loss_falls_and_every_file_is_there(tmp_path: Path) -> None:
    done = loop(Line(), tmp_path, steps=60).run()
    assert (done.step, done.samples) == (60, 960)
    lines = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train"]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {"seconds", "samples_per_second", "learning_rate", "norm", "smooth_loss"} <= lines[0].keys()
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoints",
        "export",
        "log.jsonl",
        "loss.png",
        "samples.png",
    }


def test_ten_steps_a_kill_and_ten_more_equal_twenty_bit_for_bit(tmp_path: Path) -> None:
    whole = Line()
    straight = loop(whole, tmp_path / "whole")
    straight.run()
    broken = Line()
    broken.at_step = {12: kill}
    with pytest.raises(Killed):
        loop(broken, tmp_path / "parts", milestone_steps=10).run()
    again = Line()
    resumed = loop(again, tmp_path / "parts", milestone_steps=10)
    assert resumed.progress.step == 10
    resumed.run()
    assert again.prepared == list(range(10, 20))
    expected, found = weights(whole), weights(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    averages = (straight.ema.module.state_dict(), resumed.ema.module.state_dict())
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in expected)


def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_used(tmp_path: Path) -> None:
    loop(Line(), tmp_path, milestone_steps=10).run()
    file = tmp_path / "checkpoints" / "step-00000020" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    assert loop(Line(), tmp_path).progress.step == 10
    warnings = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "warning"]
    assert "step-00000020 is damaged" in str(warnings[0]["message"])


def test_a_folder_of_another_configuration_is_refused(tmp_path: Path) -> None:
    loop(Line(), tmp_path).run()
    with pytest.raises(DataError, match="another configuration"):
        loop(Line(), tmp_path, config="d")


def test_the_fingerprint_ignores_length_but_not_seed_or_sizes() -> None:
    table = {"run": {"seed": 1, "steps": 5}, "batch": 2}
    assert fingerprint(table) == fingerprint({"run": {"seed": 1, "steps": 9}, "batch": 2})
    assert fingerprint(table) != fingerprint({"run": {"seed": 2, "steps": 5}, "batch": 2})
    assert fingerprint(table) != fingerprint({"run": {"seed": 1, "steps": 5}, "batch": 3})


def test_a_step_without_finite_gradients_is_left_out(tmp_path: Path) -> None:
    stage = Line()
    stage.poison = {3}
    loop(stage, tmp_path, steps=10).run()
    assert all(torch.isfinite(tensor).all() for tensor in weights(stage).values())
    first = next(line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train")
    assert first["skipped"] == pytest.approx(0.2)
    assert math.isfinite(first["loss"])


def test_a_loss_that_stays_undefined_ends_the_run_with_an_instruction(tmp_path: Path) -> None:
    stage = Line()
    stage.poison = set(range(20))
    with pytest.raises(NumbersError, match=r"lower optimizer\.learning_rate"):
        loop(stage, tmp_path).run()


def test_a_run_in_minutes_ends_in_time(tmp_path: Path) -> None:
    done = loop(Line(), tmp_path, steps=None, minutes=0.01, log_steps=5).run()
    assert done.step > 0
    assert 0.6 <= done.seconds < 10


def test_a_termination_signal_ends_the_run_with_all_written(tmp_path: Path) -> None:
    stage = Line()
    stage.at_step = {7: lambda: os.kill(os.getpid(), signal.SIGTERM)}
    done = loop(stage, tmp_path, steps=1000).run()
    assert done.step == 10
    assert loop(Line(), tmp_path, steps=1000).progress.step == 10
