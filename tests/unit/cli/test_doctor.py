import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinescribe.cli import doctor
from kinescribe.errors import WeightsError, WriteError

Cli = Callable[..., Any]


def findings(cli: Cli, *arguments: str) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in json.loads(cli("doctor", "--json", *arguments).out)}


def test_every_line_has_a_verdict_and_every_fault_a_fix(cli: Cli) -> None:
    rows = findings(cli)
    assert {"python", "torch", "device", "memory", "disk here", "format .mp4", "extra hub"} <= set(rows)
    assert all(row["verdict"] in ("pass", "warn", "fail") for row in rows.values())
    assert all(row["fix"] for row in rows.values() if row["verdict"] != "pass")
    lines = cli("doctor").out.splitlines()
    assert len(lines) == len(rows) and all(line[:4] in ("pass", "warn", "fail") for line in lines)


def test_the_exit_code_says_whether_something_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_models", lambda: iter(()))
    assert cli("doctor", "--quick").code == 0
    monkeypatch.setattr(doctor, "version", lambda _: "2.9.1")
    done = cli("doctor", "--quick")
    assert done.code == 1 and "fail  torch: 2.9.1; " in done.out and "pip install" in done.out


def test_a_format_that_cannot_be_written_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WriteError("no libx264 encoder")

    monkeypatch.setattr("kinescribe.media.write.write_video", refuse)
    rows = findings(cli, "--quick")
    assert rows["format .mp4"]["verdict"] == "fail" and rows["format .webm"]["verdict"] == "warn"


def test_a_damaged_model_is_told_with_the_command_that_mends_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / ".home" / "models" / "mine"
    folder.mkdir(parents=True)
    sums = {"files": {"unet.safetensors": {"bytes": 5, "sha256": "0" * 64}}}
    (folder / "kinescribe-sums.json").write_text(json.dumps(sums))
    row = findings(cli, "--quick")["model mine"]
    assert row["verdict"] == "fail" and "unet.safetensors is missing" in row["detail"] and row["fix"]


def test_an_extra_that_is_too_old_is_told_with_the_pip_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinescribe.checkpoints.extras.version", lambda _: "0.1")
    rows = findings(cli, "--quick")
    for extra in ("hub", "train"):
        row = rows[f"extra {extra}"]
        assert row["verdict"] == "warn" and "0.1 is installed" in row["detail"]
        assert row["fix"] == f"pip install --upgrade 'kinescribe[{extra}]'"


def test_quick_needs_no_torch(tmp_path: Path) -> None:
    lines = ("import sys", "from kinescribe.cli.app import run", "run(['doctor', '--quick'])")
    code = "\n".join([*lines, "sys.exit('torch' in sys.modules)"])
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_the_self_test_makes_a_clip_or_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    (made,) = doctor.check_clip()
    assert made.verdict == "pass" and made.detail.startswith("16 frames in ")

    def refuse() -> None:
        raise WeightsError("its weights are damaged")

    monkeypatch.setattr("kinescribe.pipelines.load.load", refuse)
    (failed,) = doctor.check_clip()
    assert failed.verdict == "fail" and "damaged" in failed.detail and failed.fix
