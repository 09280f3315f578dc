"""`kinescribe plan`: a table or JSON of what a request would need, and `--memory` on the commands that make clips."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from goldens import folder

Cli = Callable[..., Any]

MODEL = str(folder("text_to_video/diffusers"))
SHORT = ("--model", MODEL, "--size", "64x64", "--steps", "3", "--device", "cpu")
SMALL = (*SHORT, "--frames", "2")


def planned(real: Cli, *arguments: str) -> dict[str, Any]:
    done = real("plan", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_a_table_says_each_stage_and_the_rung(real: Cli) -> None:
    done = real("plan", "a boat on the sea", *SMALL)
    assert done.code == 0, done.err
    first, *rest = done.out.splitlines()
    assert "2 frames of 64x64, 3 passes" in first and first.endswith("on cpu")
    for stage in ("reading the prompt", "denoising", "decoding", "all"):
        assert any(line.strip().startswith(stage) for line in rest)
    assert rest[-1].startswith("roomy: ") and "free" in rest[-1]


def test_json_has_the_same_numbers(real: Cli) -> None:
    found = planned(real, *SMALL)
    assert found["rung"] == "roomy" and found["work"]["frames"] == 2 and found["work"]["width"] == 64
    assert found["peak_bytes"] == max(stage["peak_bytes"] for stage in found["stages"])
    assert found["peak_bytes"] <= found["needed_bytes"] <= found["free_bytes"]
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"]), abs=0.01)
    assert all(stage["flops"] > 0 and stage["weight_bytes"] > 0 for stage in found["stages"])


def test_more_is_asked_for_and_more_is_needed(real: Cli) -> None:
    small, large = planned(real, *SMALL), planned(real, *SHORT, "--frames", "4")
    assert large["peak_bytes"] > small["peak_bytes"]
    assert large["stages"][1]["flops"] > 1.9 * small["stages"][1]["flops"]


def test_a_model_of_each_kind_is_planned_as_what_it_is_for(real: Cli) -> None:
    picture = str(folder("image_and_video_to_video/i2vgen-xl"))
    found = planned(real, "boat.png", "--model", picture, "--frames", "2", "--size", "64x64", "--fit", "pad")
    assert [stage["name"] for stage in found["stages"]][0] == "reading the picture"
    refined = planned(real, *SHORT, "--task", "video-to-video", "--strength", "0.5", "--frames", "3")
    assert [stage["name"] for stage in refined["stages"]][1] == "encoding"
    assert refined["work"]["encoded"] == 3


def test_two_stages_are_planned_one_after_the_other(real: Cli) -> None:
    done = real("plan", *SMALL, "--refine-model", MODEL, "--refine-size", "96x64", "--json")
    assert done.code == 0, done.err
    first, second = (json.loads(line) for line in done.out.splitlines())
    assert first["work"]["width"] == 64 and first["work"]["encoded"] == 0
    assert second["work"]["width"] == 96 and second["work"]["encoded"] == 2


def test_too_little_memory_is_exit_4_before_the_weights_are_read(real: Cli) -> None:
    done = real("generate", "a boat", *SMALL, "--memory", "20MB", "-o", "clip.mp4")
    assert done.code == 4
    assert re.search(r"needs \d+ MB at least for 2 frames of 64x64 and 20 MB are free \(cpu\)", done.err)
    assert "loading" not in done.err
    done = real("plan", *SMALL, "--memory", "20MB")
    assert done.code == 4 and not done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--memory", "lots"), "use auto, roomy, low, or a size"),
        (("--task", "audio"), "use one of text-to-video"),
        (("--fit", "pad"), "unknown option 'fit'"),
        (("--width", "9"), "--size beside"),
    ],
)
def test_what_cannot_be_planned_is_exit_2(real: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = real("plan", *SMALL, *arguments)
    assert done.code == 2 and said in done.err


def test_a_budget_reaches_the_model(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from kinescribe.pipelines import load

    asked: list[object] = []
    fake = load.load

    def watched(*given: Any, memory: object, **options: Any) -> Any:
        asked.append(memory)
        return fake(*given, **options)

    monkeypatch.setattr(load, "load", watched)
    assert cli("generate", "a boat", "--memory", "8GB", "-o", "a.mp4").code == 0
    assert cli("generate", "a boat", "-o", "b.mp4").code == 0
    assert asked == [8 * 10**9, "auto"]
