from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, tuple[str, ...]]]:
    """What the trainer was asked to do."""
    asked: list[tuple[Path, tuple[str, ...]]] = []

    def train(config: Path, settings: tuple[str, ...]) -> SimpleNamespace:
        asked.append((config, tuple(settings)))
        return SimpleNamespace(step=3, seconds=1.0)

    def load_config(_: Path, settings: tuple[str, ...]) -> SimpleNamespace:
        folder = dict(setting.split("=") for setting in settings).get("run.folder", "run")
        return SimpleNamespace(run=SimpleNamespace(folder=folder))

    monkeypatch.setattr("kinescribe.train.runs.train", train)
    monkeypatch.setattr("kinescribe.train.config.load_config", load_config)
    return asked


def test_train_hands_configuration_and_settings_on(cli: Cli, runs: list[Any], tmp_path: Path) -> None:
    done = cli("train", "--config", "c.toml", "--set", "run.steps=3", "--set", "run.folder=out")
    assert done.code == 0 and runs == [(Path("c.toml"), ("run.steps=3", "run.folder=out"))]
    assert done.out.startswith(f"{tmp_path / 'out'}  3 steps") and "starting the run" in done.err


def test_a_folder_with_a_run_is_gone_on_with_or_refused(cli: Cli, runs: list[Any], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / "step-1").mkdir(parents=True)
    assert "going on with the run" in cli("train", "--config", "c.toml").err
    done = cli("train", "--config", "c.toml", "--resume", "never")
    assert done.code == 7 and "--resume auto" in done.err and len(runs) == 1


def test_a_missing_configuration_is_an_error_of_one_line(cli: Cli) -> None:
    done = cli("train", "--config", "missing.toml")
    assert done.code == 7 and "missing.toml" in done.err and done.err.count("\n") == 1
    assert cli("train").code == 2
