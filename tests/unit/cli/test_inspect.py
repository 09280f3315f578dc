import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goldens import folder
from kinescribe.media.write import write_video

SMALL = ("--size", "16x16", "--frames", "2", "--steps", "2")
Cli = Callable[..., Any]


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


def test_a_recipe_of_two_stages_is_shown_with_both_and_what_was_put_in(real: Cli) -> None:
    picture, first, second = folder("image_and_video_to_video"), "i2v", "v2v"
    models = ("--model", str(picture / first), "--refine-model", str(picture / second))
    small = ("--size", "64x64", "--steps", "2", "--refine-steps", "2", "--seed", "9")
    assert (
        real("animate", str(picture / "i2v" / "test_a.png"), "a boat", *models, *small, "-o", "c.mp4").code
        == 0
    )
    text = real("inspect", "c.mp4").out
    for words in (
        "made from         memory, 64x64, 4 frames at 8 fps, sha256 ",
        "strength          0.6",
        "prompt            a boat",
        "stage before      image-to-video with i2v",
        "  made from       test_a.png, 80x45, sha256 ",
        "  condition fps   8",
        "  seed            9",
    ):
        assert f"\n{words}" in text
    recipe = json.loads(real("inspect", "c.mp4", "--json").out)["recipe"]
    assert (recipe["kind"], recipe["before"]["kind"]) == ("video-to-video", "image-to-video")
    assert recipe["before"]["source"]["name"] == "test_a.png"
