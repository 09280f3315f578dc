"""Which model a command takes, found and judged before its weights are read."""

from dataclasses import replace
from pathlib import Path

import pytest

from goldens import folder
from kinescribe.catalog import CATALOG, Kind
from kinescribe.cli import engine as engines
from kinescribe.cli.engine import Engine, default_model
from kinescribe.errors import OptionError, WeightsError

I2V = str(folder("image_and_video_to_video/i2v"))


def engine(model: str, task: Kind) -> Engine:
    return Engine(model=model, task=task, device="cpu", dtype="auto")


@pytest.mark.parametrize("task", ["image-to-video", "video-to-video"])
def test_the_model_inside_the_package_is_taken_by_its_kind(
    task: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = {name: replace(spec, embedded=spec.kind == "text-to-video") for name, spec in CATALOG.items()}
    monkeypatch.setattr(engines, "CATALOG", bare)
    with pytest.raises(OptionError, match="no model that makes clips"):
        default_model(task)
    row = next(spec for spec in CATALOG.values() if spec.kind == task)
    own = replace(row, name="own", embedded=True)
    monkeypatch.setattr(engines, "CATALOG", {**bare, "own": own})
    monkeypatch.setattr("kinescribe.checkpoints.store._ASSETS", tmp_path)
    with pytest.raises(OptionError, match="no model that makes clips"):  # a row whose weights are not there
        default_model(task)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "kinescribe.json").touch()
    assert default_model(task) == "own"


def test_a_model_that_is_on_this_computer_is_named_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path))
    bare = {name: replace(spec, embedded=False) for name, spec in CATALOG.items()}
    monkeypatch.setattr(engines, "CATALOG", bare)
    (tmp_path / "models" / "i2vgen-xl").mkdir(parents=True)
    with pytest.raises(
        OptionError, match=r"use --model i2vgen-xl \(here\), --model modelscope-image-to-video"
    ):
        default_model("image-to-video")


@pytest.mark.parametrize("model", [I2V, "i2vgen-xl"], ids=["folder", "name"])
def test_a_model_of_another_kind_is_refused_before_it_is_read(model: str) -> None:
    assert engine(model, "image-to-video").spec.kind == "image-to-video"
    for task in ("text-to-video", "video-to-video"):
        with pytest.raises(OptionError, match="makes clips from a picture"):
            _ = engine(model, task).spec


def test_a_text_to_video_model_may_refine() -> None:
    assert engine("papercut", "video-to-video").spec.name == "papercut"


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="kinescribe models pull i2vgen-xl"):
        engine("i2vgen-xl", "image-to-video").require_here()
    with pytest.raises(OptionError, match="papercat"):
        _ = engine("papercat", "text-to-video").spec
