"""Clips made together: how they are grouped, and what one that fails does to the others."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kinescribe.media.read import read_recipe, read_video

SMALL = ("--size", "16x16", "--frames", "2", "--steps", "2", "--seed", "10")
Cli = Callable[..., Any]


@pytest.fixture
def gpu(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline, as if it were on a GPU."""
    elsewhere = SimpleNamespace(**{**vars(pipeline.components), "device": "cuda:0"})
    monkeypatch.setattr(type(pipeline), "components", elsewhere)
    return pipeline


def test_clips_of_equal_size_are_made_together_on_a_gpu_and_are_those_made_alone(
    cli: Cli, gpu: Any, tmp_path: Path
) -> None:
    assert cli("generate", "a red ball", "a cat", *SMALL, "--count", "3", "-o", "many/c.mp4").code == 0
    assert gpu.lists == [["a red ball"] * 3 + ["a cat"], ["a cat"] * 2]
    for number, prompt in enumerate(["a red ball"] * 3 + ["a cat"] * 3):
        alone = ("--size", "16x16", "--frames", "2", "--steps", "2", "--seed", str(10 + number))
        assert cli("generate", prompt, *alone, "-o", f"{number}.mp4").code == 0
        one, other = tmp_path / "many" / f"c-{number + 1}.mp4", tmp_path / f"{number}.mp4"
        assert np.array_equal(read_video(one).frames, read_video(other).frames)
        assert read_recipe(one) == read_recipe(other)


def test_a_processor_makes_one_at_a_time(cli: Cli, pipeline: Any) -> None:
    assert cli("generate", "a red ball", *SMALL, "--count", "3").code == 0
    assert pipeline.lists == [] and len(pipeline.made) == 3


def test_what_memory_does_not_hold_together_is_made_in_halves_and_stays_so(cli: Cli, gpu: Any) -> None:
    gpu.room = 2
    done = cli("generate", "a ball", *SMALL, "--count", "8", "--json")
    assert [len(prompts) for prompts in gpu.lists] == [4, 2, 2, 2, 2]
    assert done.err.count("memory ran out for 4 clips at once: going on with 2") == 1
    assert [json.loads(line)["seed"] for line in done.out.splitlines()] == [*range(10, 18)]
    gpu.room = 0
    gpu.lists.clear()
    assert cli("generate", "a ball", *SMALL, "--count", "4").code == 0
    assert [len(prompts) for prompts in gpu.lists] == [4, 2] and len(gpu.made) == 12


@pytest.mark.usefixtures("gpu")
def test_one_that_fails_among_four_fails_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a ball\nthis will fail\na cat\na dog\n")
    done = cli("generate", "--prompts", "list.txt", *SMALL)
    assert done.code == 1 and "3 made, 0 done before, 1 failed (line 2)" in done.err
    assert len(list((tmp_path / "list").glob("*.mp4"))) == 3


def test_a_taken_name_among_four_fails_alone_and_is_not_made(cli: Cli, gpu: Any, tmp_path: Path) -> None:
    (tmp_path / "c-2.mp4").touch()
    done = cli("generate", "a ball", *SMALL, "--count", "4", "-o", "c.mp4")
    assert done.code == 1 and "clip 2 of 4" in done.err and "--overwrite" in done.err
    assert sorted(request.seed for request in gpu.made) == [10, 12, 13]


@pytest.mark.usefixtures("gpu")
def test_an_interrupted_batch_says_where_to_go_on(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1 ball\n2 balls\n3 balls\n4 balls\nfifth\nstop here\n")
    done = cli("generate", "--prompts", "list.txt", *SMALL)
    assert (
        done.code == 130
        and done.err.count("stopped at") == 1
        and "stopped at line 5: the same command goes on from there" in done.err
    )
    assert len(list((tmp_path / "list").glob("*.mp4"))) == 4


def test_only_clips_that_differ_in_prompt_and_next_seed_are_a_batch(
    cli: Cli, gpu: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": "a", "seed": 5}, {"prompt": "b", "seed": 6}, {"prompt": "c", "seed": 9}]
    rows += [{"prompt": "d", "seed": 10, "frames": 3}, {"prompt": "e", "seed": 11, "frames": 3}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli("generate", "--prompts", "list.jsonl", *SMALL).code == 0
    assert gpu.lists == [["a", "b"], ["d", "e"]]
