import json
from pathlib import Path

import pytest
import torch

import kinescribe
from kinescribe.perf import machine as facts
from kinescribe.perf.machine import commit, driver, machine

NUMBER = "25a4dd7c137d0123456789abcdef0123456789ab"


def test_the_facts_name_what_a_figure_depends_on() -> None:
    told = machine(torch.device("cpu"), "numpy", "no-such-package")
    assert {"date", "device", "driver", "threads", "system", "versions", "commit"} == set(told)
    versions = told["versions"]
    assert isinstance(versions, dict)
    assert versions["kinescribe"] == kinescribe.__version__ and versions["torch"] == torch.__version__
    assert "numpy" in versions and "no-such-package" not in versions
    assert json.loads(json.dumps(told)) == told and told["device"]


@pytest.mark.parametrize("packed", [True, False])
def test_the_commit_is_read_from_the_checkout(tmp_path: Path, packed: bool) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    if packed:
        (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{NUMBER} refs/heads/main\n")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{NUMBER}\n")
    assert commit(tmp_path) == NUMBER[:12]
    (git / "HEAD").write_text(f"{NUMBER}\n")
    assert commit(tmp_path) == NUMBER[:12]


def test_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) is None


def test_the_driver_is_read_where_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "version"
    monkeypatch.setattr(facts, "NVIDIA_DRIVER", told)
    assert driver() is None
    told.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC 13\n"
    )
    assert driver() == "580.159.04"
