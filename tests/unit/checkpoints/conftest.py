"""Model folders to spoil: copies of the stored fixture, and a home of their own for every test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

FIXTURE = Path(__file__).parents[2] / "fixtures" / "text_to_video"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kinescribe's home for this test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("KINESCRIBE_HOME", str(folder))
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """``copy("modelscope")`` or ``copy("diffusers")``: a folder of that layout that may be spoilt."""

    def make(layout: str, name: str | None = None) -> Path:
        return Path(shutil.copytree(FIXTURE / layout, tmp_path / (name or layout)))

    return make
