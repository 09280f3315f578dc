import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goldens import folder
from kinescribe.checkpoints.load import load_components
from kinescribe.perf.demand import Work
from kinescribe.perf.floor import clip_flops
from kinescribe.perf.outline import loaded

Cli = Callable[..., Any]
TINY = str(folder("text_to_video/diffusers"))
SMALL = ("--device", "cpu", "--dtype", "float32", "--frames", "2", "--steps", "3", "--runs", "2")
TEXT = ("--model", TINY, "--size", "32x32", *SMALL)


def figures(done: Any) -> dict[str, Any]:
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


@pytest.mark.filterwarnings("ignore")
def test_the_figures_belong_together(real: Cli) -> None:
    told = figures(real("bench", *TEXT, "--json"))
    assert (told["frames"], told["width"], told["height"], told["steps"]) == (2, 32, 32, 3)
    assert len(told["clip_seconds"]) == 2 and min(told["clip_seconds"]) > 0
    assert min(told["clip_seconds"]) <= told["seconds_per_clip"] <= max(told["clip_seconds"])
    assert 0 < told["ms_per_step"] / 1000 < told["seconds_per_clip"]
    assert told["share_of_floor"] == pytest.approx(told["floor_seconds"] / told["seconds_per_clip"])
    assert told["clip_tflop"] / told["matrix_tflops"] == pytest.approx(told["floor_seconds"])
    work = Work(frames=2, window=2, width=32, height=32, clips=1, guided=True, passes=3, encoded=0)
    assert told["clip_tflop"] == clip_flops(loaded(load_components(TINY)), work) / 1e12
    assert told["peak_gib"] > 0 and told["versions"]["torch"] and told["date"] and "profile" not in told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["i2v", "i2vgen-xl", "v2v"])
def test_models_that_take_a_picture_or_a_clip_are_given_one(real: Cli, kind: str) -> None:
    model = str(folder(f"image_and_video_to_video/{kind}"))
    told = figures(real("bench", *SMALL, "--model", model, "--size", "64x112", "--json"))
    assert (told["frames"], told["steps"]) == (2, 3) and 0 < told["share_of_floor"] < 1


@pytest.mark.filterwarnings("ignore")
def test_a_table_is_shown_and_a_file_written(real: Cli, tmp_path: Path) -> None:
    done = real("bench", *TEXT, "-o", "speed.json", "--profile")
    assert done.code == 0 and "s/clip" in done.out and "convolutions" in done.out, done.err
    told = json.loads((tmp_path / "speed.json").read_text())
    spent = told["profile"]
    assert spent["busy_ms"] == pytest.approx(sum(spent["groups_ms"].values()))
    assert f"{told['seconds_per_clip']:.3g}" in done.out


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("--runs", "0"), "--runs 0", 2),
        (("--size", "12"), "WIDTHxHEIGHT", 2),
        (("--sampler", "heun"), "sampler", 2),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    real: Cli, arguments: tuple[str, ...], words: str, code: int
) -> None:
    done = real("bench", *arguments)
    assert done.code == code and words in done.err and done.err.count("\n") == 1


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_cannot_be_written_is_told(real: Cli) -> None:
    done = real("bench", *TEXT, "-o", "no/such/folder.json")
    assert done.code != 0 and "give another file" in done.err
