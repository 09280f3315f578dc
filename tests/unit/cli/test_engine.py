"""Which model a command takes, found and judged before its weights are read."""

from dataclasses import replace
from pathlib import Path

import pytest

from goldens import folder
from kinescribe.catalog import CATALOG, Kind
from kinescribe.cli.engine import Engine, second_model
from kinescribe.errors import OptionError, WeightsError

I2V = str(folder("image_and_video_to_video/i2v"))


def engine(model: str, task: Kind) -> Engine:
    return Engine(model=model, task=task, device="cpu", dtype="auto")


@pytest.mark.parametrize("first", ["papercut", "papercut-animate"])
def test_behind_an_embedded_model_the_embedded_one_refines(first: str) -> None:
    assert second_model(CATALOG[first]) == "papercut-refine"
    assert (
        second_model(replace(CATALOG[first], embedded=False)) == "papercut-refine"
    )  # a folder, of our own making


def test_behind_another_a_model_that_is_on_this_computer_is_named_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path))
    (tmp_path / "models" / "vgen-sr600").mkdir(parents=True)
    ways = r"use --refine-model vgen-sr600 \(here\), --refine-model modelscope-video-to-video \(got by"
    with pytest.raises(OptionError, match=ways):
        second_model(CATALOG["i2vgen-xl"])


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
