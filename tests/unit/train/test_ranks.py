import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kinescribe.errors import DataError, KinescribeError
from kinescribe.train import state
from kinescribe.train.ranks import Ranks, join
from kinescribe.train.report import read_log

RECIPE = Path(__file__).parents[3] / "recipes" / "papercut_vae.toml"
# Leaves its number where the test finds it, and waits for the others as long as it is told.
IMPATIENT = """
import os, sys
from datetime import timedelta
from pathlib import Path
from kinescribe.train import ranks
ranks.PATIENCE = timedelta(seconds=int(os.environ["PATIENCE"]))
Path(os.environ["PIDS"], os.environ["RANK"]).write_text(str(os.getpid()))
from kinescribe.train.__main__ import main
ranks.end(main())
"""
ENDING = """
import atexit
from kinescribe.train.ranks import end
atexit.register(print, "taken down")
print("done", end=" ")
end(3)
"""


def test_a_process_alone_agrees_with_itself() -> None:
    ranks = join("cpu")
    model = torch.nn.Linear(1, 1)
    assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
    assert ranks.from_first(1.5, 0.0) == [1.5, 0.0]
    assert ranks.stack(torch.arange(3)).shape == (1, 3)
    assert ranks.mean(torch.ones(2)).tolist() == [1, 1]
    assert ranks.wrap(model) is model


@pytest.mark.parametrize(("world", "said"), [("1", "done taken down"), ("2", "done")])
def test_one_of_several_processes_ends_without_taking_python_down(world: str, said: str) -> None:
    environment = {**os.environ, "WORLD_SIZE": world}
    ended = subprocess.run(
        [sys.executable, "-c", ENDING], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (3, said, "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_device_is_an_error() -> None:
    with pytest.raises(DataError, match=r"run\.device=cpu"):
        join("cuda")


@pytest.mark.parametrize(("visible", "local", "index"), [(1, 3, 0), (4, 3, 3), (2, 3, 1)])
def test_a_process_takes_a_device_that_it_sees(
    monkeypatch: pytest.MonkeyPatch, visible: int, local: int, index: int
) -> None:
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", str(local))
    ranks = join("auto")
    assert ranks.device == torch.device("cuda", index)
    assert taken == [ranks.device]


def test_the_loss_of_another_process_is_one_line_and_other_errors_pass() -> None:
    pair = Ranks(rank=0, world=2, device=torch.device("cpu"))
    said = "[/src/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:99. This is typical.\nMore"
    wanted = r"^process 0 of 2 .*\(Connection closed by peer .*:99\)"
    with pytest.raises(KinescribeError, match=wanted) as caught, pair.together():
        raise RuntimeError(said)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    with pytest.raises(RuntimeError, match="shapes differ"), pair.together():
        raise RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="pair.cc"), join("cpu").together():
        raise RuntimeError(said)


def launch(folder: Path, changes: list[str], steps: int, patience: int) -> subprocess.Popen[str]:
    """Two processes under torchrun, a checkpoint every fourth step; ``patience`` counts the seconds they wait."""
    (folder / "runner.py").write_text(IMPATIENT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*torchrun, str(folder / "runner.py"), "--config", str(RECIPE)]
    for change in (*changes, f"run.steps={steps}", "run.milestone_steps=4"):
        arguments += ["--set", change]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PIDS": str(folder), "PATIENCE": str(patience)}
    return subprocess.Popen(
        arguments, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blow", "victim", "limit"), [("SIGKILL", 0, 30), ("SIGKILL", 1, 30), ("SIGSTOP", 1, 90)]
)
def test_a_process_that_dies_or_hangs_ends_the_job_and_the_run_goes_on_from_its_checkpoint(
    tmp_path: Path, tiny_settings: Callable[..., list[str]], blow: str, victim: int, limit: float
) -> None:
    run = tmp_path / "run"
    changes = tiny_settings(run, "vae")
    job = launch(tmp_path, changes, steps=1_000_000, patience=15)
    try:
        waiting = time.monotonic() + 120
        while not list(run.glob("checkpoints/step-*")) and time.monotonic() < waiting and job.poll() is None:
            time.sleep(0.05)
        struck = time.monotonic()
        os.kill(int((tmp_path / str(victim)).read_text()), getattr(signal, blow))
        said = job.communicate(timeout=limit)[1]
    finally:
        job.terminate()
    assert job.returncode != 0 and time.monotonic() - struck < limit
    assert f"rank      : {victim}" in said  # torchrun names the one that failed, and ends the other
    assert blow == "SIGKILL" or "error: process 0 of 2 waits for another one in vain" in said
    found = state.newest(run / "checkpoints", lambda message: pytest.fail(message))
    assert found is not None and found.facts.step > 0
    if blow == "SIGKILL":
        again = launch(tmp_path, changes, steps=found.facts.step + 2, patience=100)
        said = again.communicate(timeout=120)[1]
        assert again.returncode == 0, said
        lines = read_log(run / "log.jsonl")
        assert [line["step"] for line in lines if line["kind"] == "resume"] == [found.facts.step]
        assert lines[-1]["step"] == found.facts.step + 2
