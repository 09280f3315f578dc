import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kinescribe.errors import DataError, WriteError
from kinescribe.train import state
from kinescribe.train.report import read_log
from kinescribe.train.runs import train

RECIPES = Path(__file__).parents[3] / "recipes"
Tiny = Callable[..., list[str]]
WITHOUT_THE_REST = """
import sys
for name in ("pydantic", "av", "cyclopts", "ftfy", "rich", "matplotlib"):
    sys.modules[name] = None
import kinescribe.evaluate.animate, kinescribe.evaluate.papercut, kinescribe.evaluate.refine
from kinescribe.train.__main__ import main
sys.exit(main())
"""
# A file may not grow beyond a number of bytes, which is how a full disk looks to the one who writes.
ON_A_FULL_DISK = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from kinescribe.train.__main__ import main
sys.exit(main())
"""


def run_module(*command: str, config: str, changes: list[str]) -> subprocess.CompletedProcess[str]:
    arguments = ["--config", str(RECIPES / config)]
    for change in changes:
        arguments += ["--set", change]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_training_needs_none_of_the_packages_that_a_bare_machine_lacks(
    tmp_path: Path, tiny_settings: Tiny
) -> None:
    changes = tiny_settings(tmp_path, "vae")
    ended = run_module(sys.executable, "-c", WITHOUT_THE_REST, config="papercut_vae.toml", changes=changes)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "export" / "vae.safetensors").is_file()
    assert (tmp_path / "loss.png").is_file()


def test_a_faulty_setting_ends_with_one_line_and_its_exit_code(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "kinescribe.train")
    ended = run_module(
        *command, config="papercut_vae.toml", changes=["run.stepz=3", f"run.folder={tmp_path}"]
    )
    assert ended.returncode == DataError.exit_code
    assert ended.stderr.strip().count("\n") == 0
    assert "run.stepz" in ended.stderr


def test_a_recipe_of_the_past_is_left_beside_the_run(tmp_path: Path, tiny_settings: Tiny) -> None:
    train(
        RECIPES / "papercut_vae.toml",
        tiny_settings(tmp_path, "vae"),
    )
    assert json.loads((tmp_path / "config.json").read_text())["vae"]["width"] == 8


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of a file")
@pytest.mark.parametrize("full", ["checkpoint", "log"])
def test_a_full_disk_ends_the_run_and_its_last_checkpoint_stays_good(
    tmp_path: Path, tiny_settings: Tiny, full: str
) -> None:
    run = tmp_path / "run"
    changes = [*tiny_settings(run, "vae"), "run.keep_checkpoints=1"]
    train(RECIPES / "papercut_vae.toml", changes)
    before = sorted(path for path in run.rglob("*") if path.is_file() and path.suffix == ".safetensors")
    sums = [path.read_bytes() for path in before]
    grown = (
        run / "log.jsonl" if full == "log" else run / "checkpoints" / "step-00000004" / "state.safetensors"
    )
    limit = grown.stat().st_size - (0 if full == "log" else 1)
    longer = [*changes, "run.steps=8"]
    command = (sys.executable, "-c", ON_A_FULL_DISK, str(limit))
    ended = run_module(*command, config="papercut_vae.toml", changes=longer)
    assert ended.returncode == WriteError.exit_code, ended.stderr
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert "(File too large)" in ended.stderr and "free space" in ended.stderr
    assert not [path for path in run.rglob(".*")]
    found = state.newest(run / "checkpoints", lambda message: pytest.fail(message))
    assert found is not None and found.facts.step == 4
    if full == "log":
        assert [path.read_bytes() for path in before] == sums
    assert train(RECIPES / "papercut_vae.toml", longer).step == 8


def samples_of_two_processes(folder: Path, config: str, changes: list[str]) -> list[int]:
    """Train as two processes; the samples that they count together at each line of the log."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    ended = run_module(
        *torchrun, "-m", "kinescribe.train", config=config, changes=[*changes, "validation_clips=4"]
    )
    assert ended.returncode == 0, ended.stderr
    lines = read_log(folder / "log.jsonl")
    assert lines[0]["world"] == 2
    assert (folder / "export" / "kinescribe.json").is_file()
    return [line["samples"] for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path, vae_folder: Path, tiny_settings: Tiny) -> None:
    changes = [*tiny_settings(tmp_path, "unet", "text"), f"vae_from={vae_folder}", "sheet_steps=2"]
    changes += ["image_batch=4", "image_share=0.25"]
    assert samples_of_two_processes(tmp_path, "papercut.toml", changes) == [8, 20]


@pytest.mark.slow
def test_two_processes_distil_together(tmp_path: Path, model_folder: Path, tiny_settings: Tiny) -> None:
    changes = [*tiny_settings(tmp_path), f"teacher={model_folder}", "teacher_steps=8"]
    assert samples_of_two_processes(tmp_path, "papercut_distil.toml", changes) == [8, 16]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["animate", "refine"])
def test_two_processes_train_the_other_stages_together(
    tmp_path: Path, vae_folder: Path, model_folder: Path, tiny_settings: Tiny, stage: str
) -> None:
    tables = ("unet", "conditions", "vision") if stage == "animate" else ("unet",)
    changes = [*tiny_settings(tmp_path, *tables), f"model_from={model_folder}", "sheet_steps=2"]
    changes += [f"vae_from={vae_folder}"] if stage == "refine" else []
    assert samples_of_two_processes(tmp_path, f"papercut_{stage}.toml", changes) == [8, 16]
