"""Model folders to spoil: copies of the stored models, and a home of their own for every test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import goldens


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kinescribe's home for this test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("KINESCRIBE_HOME", str(folder))
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """``copy("modelscope")``, ``copy("diffusers")`` or ``copy("i2v")``: a stored folder that may be spoilt."""

    def make(layout: str, name: str | None = None) -> Path:
        family = "text_to_video" if layout in ("modelscope", "diffusers") else "image_and_video_to_video"
        return Path(shutil.copytree(goldens.folder(f"{family}/{layout}"), tmp_path / (name or layout)))

    return make
