import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinescribe.media.read import read_recipe, read_video
from kinescribe.media.write import write_video

SMALL = ("--size", "16x16", "--frames", "2", "--steps", "2")
Cli = Callable[..., Any]


@pytest.mark.parametrize("name", ["c.mp4", "c.webm", "c.gif", "c.webp", "c/"])
def test_remake_without_changes_gives_the_same_frames(cli: Cli, tmp_path: Path, name: str) -> None:
    cli("generate", "a red ball", *SMALL, "--seed", "5", "--guidance", "2.5", "-o", name)
    assert cli("remake", name).code == 0
    stem, dot, suffix = name.rstrip("/").partition(".")
    again = tmp_path / f"{stem}-remake{dot}{suffix}"
    assert np.array_equal(read_video(tmp_path / name).frames, read_video(again).frames)
    assert read_recipe(again) == read_recipe(tmp_path / name)


def test_remake_changes_only_what_is_asked(cli: Cli, tmp_path: Path) -> None:
    cli("generate", "a red ball", *SMALL, "--seed", "5", "-o", "c.mp4")
    assert cli("remake", "c.mp4", "--seed", "6", "--prompt", "a blue ball", "-o", "d.mp4").code == 0
    before, after = (read_recipe(tmp_path / name)["request"] for name in ("c.mp4", "d.mp4"))
    assert after == {**before, "seed": 6, "prompt": "a blue ball"}  # type: ignore[dict-item]


def test_remake_with_other_weights_warns(cli: Cli, pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("generate", "a red ball", *SMALL, "-o", "c.mp4")
    monkeypatch.setattr(pipeline.components, "model_hash", "cd" * 8)
    done = cli("remake", "c.mp4")
    assert done.code == 0 and "other weights" in done.err


def test_a_recipe_opens_no_model_of_its_own_choice(cli: Cli, pipeline: Any, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()
    recipe = {
        "request": {"prompt": "a"}, "note": "AI-generated", "model": "trap", "model_hash": "ab" * 8,
        "kinescribe": "0.1.0", "torch": "2",
    }  # fmt: skip
    write_video(np.zeros((2, 16, 16, 3), np.uint8), 8, tmp_path / "c.mp4", recipe=recipe)
    done = cli("remake", "c.mp4")
    assert done.code == 2 and "--model" in done.err and not pipeline.made


def test_a_hostile_recipe_makes_nothing(cli: Cli, pipeline: Any, tmp_path: Path) -> None:
    recipe = {"request": {"prompt": "a", "output": "/etc/passwd"}, "model": "../.."}
    write_video(np.zeros((2, 16, 16, 3), np.uint8), 8, tmp_path / "c.mp4", recipe=recipe)
    assert cli("remake", "c.mp4").code == 2 and not pipeline.made
    shown = cli("inspect", "c.mp4", "--json")
    assert shown.code == 0 and json.loads(shown.out)["recipe"] is None and "not a recipe" in shown.err


def test_inspect_shows_clip_and_recipe(cli: Cli) -> None:
    cli("generate", "a red ball", *SMALL, "--seed", "5", "-o", "c.mp4")
    text = cli("inspect", "c.mp4").out
    for words in ("width             16", "seed              5", "AI-generated", "a red ball", "papercut"):
        assert words in text
    assert json.loads(cli("inspect", "c.mp4", "--json").out)["recipe"]["request"]["seed"] == 5


def test_a_clip_without_recipe_is_inspected_but_not_remade(cli: Cli) -> None:
    cli("generate", "a red ball", *SMALL, "-o", "c.mp4", "--no-metadata")
    assert cli("inspect", "c.mp4").code == 0
    done = cli("remake", "c.mp4")
    assert done.code == 2 and "no recipe" in done.err


@pytest.mark.parametrize("command", ["inspect", "remake"])
@pytest.mark.parametrize("name", ["missing.mp4", "http://127.0.0.1:9/x.mp4"])
def test_a_missing_clip_is_exit_2(cli: Cli, command: str, name: str) -> None:
    assert cli(command, name).code == 2
