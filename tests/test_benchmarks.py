"""The scripts of `benchmarks/` run, give every side the same work, and draw what they measured."""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("peers")


def options(**changed: Any) -> argparse.Namespace:
    usual = {
        "cases": "t2v,i2vgen,v2v,zeroscope",
        "sides": "ours,diffusers,modelscope",
        "limits": "",
        "tiny": True,
    }
    return argparse.Namespace(**{**usual, "modelscope": Path("a.whl"), **changed})


def test_the_most_important_entries_come_first(peers: ModuleType) -> None:
    asked = [entry[:3] for entry in peers.entries(options(sides="ours,diffusers,compiled", limits="v2v:12"))]
    assert asked[:2] == [("t2v", "ours", 0.0), ("t2v", "diffusers", 0.0)]
    assert asked[-2:] == [("t2v", "compiled", 0.0), ("v2v", "ours", 12.0)]


def test_modelscope_is_left_out_without_its_wheel(peers: ModuleType) -> None:
    assert not [entry for entry in peers.entries(options(modelscope=None)) if entry[1] == "modelscope"]


def test_the_default_fits_its_budget(peers: ModuleType) -> None:
    assert sum(entry[3] for entry in peers.entries(options())) + peers.KEPT_BACK <= 480


def test_rows_of_one_work_have_one_floor(peers: ModuleType) -> None:
    rows: list[dict[str, Any]] = [
        {"case": "t2v", "side": side, "what": "decode", "ms_per_decode": ms, **peers.sizes("t2v", options())}
        for side, ms in (("ours", 10.0), ("diffusers", 20.0))
    ]
    result = {"rows": rows, "matrix_tflops": 1.0, "not_run": {"t2v.compiled": "no time was left"}}
    peers.with_floors(result, options())
    assert rows[0]["floor_seconds"] == rows[1]["floor_seconds"] > 0
    assert rows[0]["share_of_floor"] == 2 * rows[1]["share_of_floor"]
    result |= {"date": "2026-11-21", "device": "a", "versions": {"torch": "2"}, "dtype": "float16"}
    table = peers.markdown(result)
    assert "| Kinescribe |  |  | 10.0 |" in table and "t2v.compiled: no time was left" in table


def test_a_chart_is_drawn_from_what_is_committed(tmp_path: Path) -> None:
    result = sorted((SCRIPTS / "results").glob("*text_to_video.json"))[0]
    out = tmp_path / "speed.png"
    run("docs/images/make_speed_chart.py", str(result), "--out", str(out))
    assert out.stat().st_size > 1000


@pytest.mark.slow
def test_every_side_runs_and_ours_and_diffusers_make_the_same_clip(tmp_path: Path) -> None:
    out = tmp_path / "peers.json"
    run("benchmarks/peers.py", "--tiny", "--runs", "1", "--cases", "t2v,i2vgen", "--sides", "ours,plain,diffusers",
        "--out", str(out))  # fmt: skip
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["not_run"] == {}
    found = {(row["case"], row["side"], row["what"]) for row in result["rows"]}
    sides = [(case, side) for case in ("t2v", "i2vgen") for side in ("ours", "diffusers")]
    assert {(case, side, "decode") for case, side in sides} <= found
    assert {("t2v", "ours", "clip"), ("t2v", "plain", "clip"), ("i2vgen", "diffusers", "step")} <= found
    assert result["mean_level_difference"]["diffusers"] < 1


@pytest.mark.slow
def test_an_entry_that_fails_stops_no_other(tmp_path: Path) -> None:
    out, none = tmp_path / "peers.json", str(tmp_path / "missing.whl")
    run("benchmarks/peers.py", "--tiny", "--runs", "1", "--cases", "zeroscope,v2v", "--sides", "ours,modelscope",
        "--modelscope", none, "--out", str(out))  # fmt: skip
    result = json.loads(out.read_text(encoding="utf-8"))
    assert "FileNotFoundError" in result["not_run"]["v2v.modelscope"]
    assert {row["case"] for row in result["rows"]} == {"v2v", "zeroscope"}


@pytest.mark.slow
def test_the_pair_on_a_processor_agrees_before_it_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "pair.json"
    run("benchmarks/cpu_pair.py", "--runs", "1", "--steps", "2", "--out", str(out))
    result = json.loads(out.read_text(encoding="utf-8"))
    assert max(result["agreement"].values()) < 1e-4
    assert len(result["sides"]) == 5 and all(side["ms_per_step"] > 0 for side in result["sides"].values())
    assert set(result["better"].values()) <= set(result["sides"])


def run(script: str, *arguments: str) -> None:
    # threads that spin while they wait would slow the tests that run beside this one
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.slow
def test_loading_is_timed_in_processes_of_its_own(tmp_path: Path) -> None:
    out, folder = tmp_path / "load.json", ROOT / "src" / "kinescribe" / "assets" / "papercut"
    run("benchmarks/load.py", str(folder), "--runs", "2", "--device", "cpu", "--out", str(out))
    result = json.loads(out.read_text(encoding="utf-8"))
    assert len(result["load_seconds"]) == 2 and min(result["load_seconds"]) > 0
    assert result["gigabytes"] == pytest.approx(0.017, rel=0.05)
    stages = result["stage_seconds"]
    asked = ["imports", "configurations", "headers", "tokenizer", "networks", "weights", "layout", "rest"]
    assert sorted(stages) == sorted(asked) and all(seconds > 0 for seconds in stages.values())


@pytest.mark.slow
def test_presets_are_measured_beside_the_exact_clip(tmp_path: Path) -> None:
    out = tmp_path / "presets.json"
    run(
        "benchmarks/presets.py",
        "--tiny",
        "--runs",
        "1",
        "--device",
        "cpu",
        "--presets",
        "reuse,fast8",
        "--out",
        str(out),
    )
    result = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["preset"]: row for row in result["rows"]}
    assert set(rows) == {"exact", "reuse"} and rows["exact"]["latent_error"] == 0
    assert rows["reuse"]["latent_error"] > 0 and len(rows["exact"]["clip_seconds"]) == 2
    assert "needs a GPU" in result["not_run"]["fast8"]
