"""LoRAs on the command line: typed, recorded, asked for again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lora_files as files
from kinescribe.cli.loras import LoraChoice, parse_lora, remade_loras
from kinescribe.errors import OptionError
from kinescribe.media.read import read_recipe
from kinescribe.media.recipe import AppliedLora, Recipe
from kinescribe.options import TextToVideo

Cli = Callable[..., Any]
SMALL = ("--size", "32x32", "--frames", "2", "--steps", "1", "--seed", "1")


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("style.safetensors", "style.safetensors", None),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("folder/with:colon", "folder/with:colon", None),
        ("folder/with:colon:-1", "folder/with:colon", -1.0),
        ("C:\\loras\\style.pt", "C:\\loras\\style.pt", None),
        (":0.5", ":0.5", None),
    ],
)
def test_a_number_behind_the_last_colon_is_the_scale(text: str, path: str, scale: float | None) -> None:
    assert parse_lora(text) == LoraChoice(path=path, scale=scale)


def test_a_file_that_is_called_so_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:1").touch()
    assert parse_lora("a:1") == LoraChoice(path="a:1", scale=None)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf"])
def test_a_scale_is_finite(scale: str) -> None:
    with pytest.raises(OptionError, match="finite"):
        parse_lora(f"style.safetensors:{scale}")


def recipe(*loras: AppliedLora) -> Recipe:
    return Recipe(
        request=TextToVideo(prompt="x"),
        model="papercut",
        model_hash="0" * 16,
        loras=loras or None,
        kinescribe="0.1",
        torch="2",
    )


@pytest.fixture
def choices(tmp_path: Path) -> list[LoraChoice]:
    paths = [
        files.diffusers(
            tmp_path / f"{name}.safetensors", files.factors(lambda n: "mid_block" in n, seed=seed)
        )
        for seed, name in enumerate("abc")
    ]
    return [LoraChoice(path=str(path), scale=None) for path in paths]


def applied(choice: LoraChoice, scale: float) -> AppliedLora:
    return AppliedLora.of(Path(choice.path).name, choice.sha256(), scale)


def test_the_loras_of_a_recipe_are_found_by_their_bytes(choices: list[LoraChoice]) -> None:
    a, b, c = choices
    told = recipe(applied(a, 0.5), applied(b, 2.0))
    first, second = remade_loras(told, None, [c, b, LoraChoice(path=a.path, scale=0.1)])
    assert [(lora.path, lora.scale) for lora in first] == [(a.path, 0.1), (b.path, 2.0), (c.path, None)]
    assert second == ()


def test_each_stage_gets_its_own(choices: list[LoraChoice]) -> None:
    a, b, _ = choices
    first, second = remade_loras(recipe(applied(a, 1.0)), recipe(applied(b, 1.0)), [b, a])
    assert [lora.path for lora in first] == [a.path]
    assert [lora.path for lora in second] == [b.path]


def test_a_lora_that_is_missing_or_another_one_is_refused(choices: list[LoraChoice]) -> None:
    a, b, _ = choices
    with pytest.raises(OptionError, match=r"made with the LoRA 'a.safetensors' .* add --lora FILE"):
        remade_loras(recipe(applied(a, 1.0)), None, [])
    with pytest.raises(OptionError, match="b.safetensors is another one"):
        remade_loras(recipe(applied(a, 1.0)), None, [b])


def test_without_any_in_the_recipe_those_given_are_added(choices: list[LoraChoice]) -> None:
    assert remade_loras(recipe(), None, choices) == (tuple(choices), ())


@pytest.mark.parametrize("command", [("inspect",), ("models", "check")])
def test_a_lora_file_says_what_it_is(cli: Cli, choices: list[LoraChoice], command: tuple[str, ...]) -> None:
    told = cli(*command, choices[0].path)
    assert told.code == 0
    assert "LoRA, added to a model with --lora" in told.out
    facts = json.loads(cli(*command, choices[0].path, "--json").out)
    assert (facts["kind"], facts["program"], facts["ranks"], facts["sha256"]) == (
        "lora", "PEFT", [2, 2], choices[0].sha256(),
    )  # fmt: skip


def test_what_is_no_lora_is_refused_before_a_model_is_loaded(cli: Cli, pipeline: Any) -> None:
    for name, reason in (("absent.safetensors", "no such file"), (str(files.base() / files.UNET), "no LoRA")):
        done = cli("generate", "x", *SMALL, "--lora", name, "-o", "c.mp4")
        assert done.code == 3 and reason in done.err
    assert not pipeline.made


@pytest.mark.slow
def test_clips_with_loras_are_made_and_made_again(
    real: Cli, choices: list[LoraChoice], tmp_path: Path
) -> None:
    a, b, _ = choices
    model = ("--model", str(files.base()), "--dtype", "float32", "--no-policy")
    done = real(
        "generate", "a panda", *SMALL, *model, "--lora", f"{a.path}:0.5", "--lora", b.path, "-o", "c.mp4"
    )
    assert done.code == 0, done.err
    assert "a.safetensors: matched" in done.err and "scale 0.5" in done.err
    assert [lora["scale"] for lora in read_recipe(tmp_path / "c.mp4")["loras"]] == [0.5, 1.0]  # type: ignore[index]
    assert "a.safetensors, scale 0.5, sha256" in real("inspect", "c.mp4").out
    assert real("remake", "c.mp4", *model).code == 2
    assert real("remake", "c.mp4", *model, "--lora", a.path, "--lora", b.path, "-o", "d.mp4").code == 0
    assert (tmp_path / "c.mp4").read_bytes() == (tmp_path / "d.mp4").read_bytes()
