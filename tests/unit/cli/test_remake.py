from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goldens import folder
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


MODELS = folder("image_and_video_to_video")
I2V, V2V, XL = (str(MODELS / name) for name in ("i2v", "v2v", "i2vgen-xl"))
PICTURE, OTHER, CLIP = (str(MODELS / name) for name in ("i2v/test_a.png", "i2v/test_b.png", "v2v/test.mp4"))
TINY = ("--size", "64x64", "--steps", "2")


def same(one: Path, other: Path) -> bool:
    frames, again = read_video(one).frames, read_video(other).frames
    return frames.shape == again.shape and np.array_equal(frames, again)


def test_a_clip_from_a_picture_is_remade_from_the_same_picture(real: Cli, tmp_path: Path) -> None:
    assert real("animate", PICTURE, "a boat", "--model", XL, *TINY, "--frames", "3", "-o", "c.mp4").code == 0
    done = real("remake", "c.mp4", "--model", XL, "--image", PICTURE)
    assert done.code == 0 and "will differ" not in done.err
    assert same(tmp_path / "c.mp4", tmp_path / "c-remake.mp4")
    assert read_recipe(tmp_path / "c.mp4") == read_recipe(tmp_path / "c-remake.mp4")


def test_another_picture_is_a_warning_and_another_clip(real: Cli, tmp_path: Path) -> None:
    assert real("animate", PICTURE, "--model", I2V, *TINY, "-o", "c.mp4").code == 0
    done = real("remake", "c.mp4", "--model", I2V, "--image", OTHER, "-o", "d.mp4")
    assert done.code == 0 and done.err.count("is not what the clip was made from (test_a.png)") == 1
    assert not same(tmp_path / "c.mp4", tmp_path / "d.mp4")


@pytest.mark.slow
def test_a_refined_clip_is_remade_from_the_same_clip(real: Cli, tmp_path: Path) -> None:
    assert real("refine", CLIP, "a panda", "--model", V2V, "--steps", "2", "-o", "c.mp4").code == 0
    done = real("remake", "c.mp4", "--model", V2V, "--clip", CLIP)
    assert done.code == 0 and "will differ" not in done.err
    assert same(tmp_path / "c.mp4", tmp_path / "c-remake.mp4")
    done = real("remake", "c.mp4", "--model", V2V, "--clip", "c.mp4", "-o", "d.mp4")
    assert done.code == 0 and "c.mp4 is not what the clip was made from (test.mp4)" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("two", [("generate", "a red ball"), ("animate", PICTURE, "a red ball")])
def test_two_stages_are_remade_as_two(real: Cli, tmp_path: Path, two: tuple[str, ...]) -> None:
    first = str(folder("text_to_video/diffusers")) if two[0] == "generate" else I2V
    models = ("--model", first, "--refine-model", V2V)
    assert real(*two, *models, *TINY, "--frames", "4", "--refine-steps", "2", "-o", "c.mp4").code == 0
    picture = ("--image", PICTURE) if two[0] == "animate" else ()
    done = real("remake", "c.mp4", *models, *picture)
    assert done.code == 0 and "will differ" not in done.err
    assert same(tmp_path / "c.mp4", tmp_path / "c-remake.mp4")
    changed = ("--seed", "5", "--prompt", "a boat", "--steps", "3", "--refine-steps", "4", "-o", "d.mp4")
    assert real("remake", "c.mp4", *models, *picture, *changed).code == 0
    recipe = read_recipe(tmp_path / "d.mp4")
    later, earlier = recipe["request"], recipe["before"]["request"]  # type: ignore[index]
    assert [stage["seed"] for stage in (earlier, later)] == [5, 5]
    assert [stage["steps"] for stage in (earlier, later)] == [3, 4]
    # a model that reads no text leaves the prompt to the second stage
    assert [stage["prompt"] for stage in (earlier, later)] == ["" if picture else "a boat", "a boat"]


def test_a_clip_of_one_stage_is_remade_with_a_second(real: Cli, tmp_path: Path) -> None:
    first = str(folder("text_to_video/diffusers"))
    assert real("generate", "a red ball", "--model", first, *TINY, "--frames", "2", "-o", "c.mp4").code == 0
    done = real("remake", "c.mp4", "--model", first, "--refine-model", V2V, "--refine-steps", "2")
    assert done.code == 0 and read_video(tmp_path / "c-remake.mp4").size == (64, 48)


@pytest.mark.parametrize(
    ("made", "arguments", "words"),
    [
        ("animate", ("--model", I2V), "made from 'test_a.png', which it does not hold: add --image FILE"),
        ("animate", ("--image", PICTURE), "'i2v', which is not known here: add --model FOLDER"),
        ("animate", ("--image", PICTURE, "--model", I2V, "--clip", CLIP), "--clip"),
        ("animate", ("--image", "missing.png", "--model", I2V), "missing.png"),
        ("animate", ("--image", PICTURE, "--model", V2V), "image-to-video"),
        ("animate", ("--image", PICTURE, "--model", I2V, "--strength", "0.5"), "strength"),
        ("refine", ("--model", V2V), "made from 'test.mp4', which it does not hold: add --clip FILE"),
        ("refine", ("--clip", CLIP, "--model", V2V, "--image", PICTURE), "--image"),
        ("refine", ("--clip", CLIP, "--model", V2V, "--frames", "3"), "frames"),
    ],
)
def test_what_a_recipe_does_not_hold_is_asked_for(
    real: Cli, tmp_path: Path, made: str, arguments: tuple[str, ...], words: str
) -> None:
    kind, model, name = {
        "animate": ("image-to-video", "i2v", "test_a.png"),
        "refine": ("video-to-video", "v2v", "test.mp4"),
    }[made]
    source = {"name": name, "sha256": "0" * 64, "width": 8, "height": 8, "frames": 1, "fps": 8.0}
    recipe = {
        "kind": kind, "request": {}, "source": source, "model": model, "model_hash": "ab" * 8,
        "kinescribe": "0.1.0", "torch": "2",
    }  # fmt: skip
    write_video(np.zeros((2, 16, 16, 3), np.uint8), 8, tmp_path / "c.mp4", recipe=recipe)
    done = real("remake", "c.mp4", *arguments, "-q")
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "c-remake.mp4").exists()


@pytest.mark.slow
def test_the_clip_before_may_stand_in_for_the_first_of_two_stages(real: Cli, tmp_path: Path) -> None:
    first = str(folder("text_to_video/diffusers"))
    two = ("--model", first, "--refine-model", V2V, *TINY, "--frames", "2", "--refine-steps", "2")
    assert real("generate", "a red ball", *two, "-o", "c.mp4").code == 0
    done = real("remake", "c.mp4", "--clip", CLIP, "--model", V2V, "-o", "d.mp4")
    assert done.code == 0 and "is not what the clip was made from (memory)" in done.err
    assert len(read_video(tmp_path / "d.mp4").frames) == 4  # those of the clip


def test_three_steps_are_not_remade_at_once(real: Cli, tmp_path: Path) -> None:
    assert real("generate", "a ball", "--steps", "1", "--frames", "1", "-o", "c.mp4").code == 0
    recipe = read_recipe(tmp_path / "c.mp4")
    refined = {**recipe, "kind": "video-to-video", "request": {"prompt": "a"}}
    chain = {**refined, "before": {**refined, "before": recipe}}
    write_video(np.zeros((2, 16, 16, 3), np.uint8), 8, tmp_path / "d.mp4", recipe=chain)
    done = real("remake", "d.mp4")
    assert done.code == 2 and "three steps" in done.err and "--clip" in done.err
