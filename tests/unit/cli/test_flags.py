import inspect
from collections.abc import Callable
from typing import Any

import pytest

from kinescribe.cli.animate import animate
from kinescribe.cli.app import run
from kinescribe.cli.flags import Making, Refining, parse_size, two_stages, with_size
from kinescribe.cli.generate import generate
from kinescribe.cli.refine import refine
from kinescribe.cli.remake import remake
from kinescribe.errors import OptionError
from kinescribe.options import ImageToVideo, Request, TextToVideo, VideoToVideo

COMMANDS: list[tuple[Callable[..., Any], tuple[type[Request], ...]]] = [
    (generate, (TextToVideo,)),
    (animate, (ImageToVideo,)),
    (refine, (VideoToVideo,)),
    (remake, (TextToVideo, ImageToVideo, VideoToVideo)),
]
SHARED = {"prompt", "seed", "fps", "width", "height"}


@pytest.mark.parametrize(("command", "kinds"), COMMANDS)
def test_every_field_of_a_request_is_a_flag_and_none_is_declared_twice(
    command: Callable[..., Any], kinds: tuple[type[Request], ...]
) -> None:
    fields = {name for kind in kinds for name in kind.model_fields}
    flags = set(inspect.signature(command).parameters)
    assert fields <= flags
    if command is not refine:
        assert {f"refine_{name}" for name in set(VideoToVideo.model_fields) - SHARED} <= flags
    code = inspect.unwrap(command).__code__
    own = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    assert own & fields == set()


@pytest.mark.parametrize(("command", "kinds"), COMMANDS)
def test_help_tells_of_every_field(
    command: Callable[..., Any], kinds: tuple[type[Request], ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run([command.__name__, "--help"])
    told = capsys.readouterr().out
    for name in {name for kind in kinds for name in kind.model_fields} - {"prompt"}:
        assert f"--{name.replace('_', '-')} " in told, name


def test_a_flag_of_the_second_stage_is_kept_apart_from_the_first() -> None:
    typed = {"steps": 3, "refine_steps": 5, "seed": None, "refine_fit": None}
    assert two_stages(typed, "8x16", "64x48") == (
        {"steps": 3, "width": 8, "height": 16},
        {"steps": 5, "width": 64, "height": 48},
    )


@pytest.mark.parametrize(
    ("refining", "second", "asked"),
    [
        (Refining(), {}, False),
        (Refining(refine_model="papercut"), {}, True),
        (Refining(refine=True, refine_model="papercut"), {}, True),
        (Refining(refine_model="papercut", refine_size="8x8"), {"steps": 2}, True),
    ],
)
def test_any_flag_of_the_second_stage_asks_for_it(
    refining: Refining, second: dict[str, Any], asked: bool
) -> None:
    making = Making(device="cpu")
    engine = refining.engine(making, second, after=making.engine("i2vgen-xl", "image-to-video"))
    assert (engine is not None) == asked
    if engine is not None:
        assert (engine.model, engine.task, engine.device) == ("papercut", "video-to-video", "cpu")


@pytest.mark.parametrize("refining", [Refining(refine=True), Refining(refine_size="8x8")])
def test_behind_an_embedded_model_no_second_one_need_be_named(refining: Refining) -> None:
    making = Making(device="cpu")
    engine = refining.engine(making, {}, after=making.engine("papercut", "text-to-video"))
    assert engine is not None and engine.model == "papercut-refine"


@pytest.mark.parametrize("text", ["256x128", "256X128", "256\u00d7128", " 256 x 128 "])
def test_sizes_are_read(text: str) -> None:
    assert parse_size(text) == (256, 128)


@pytest.mark.parametrize("text", ["", "256", "x", "256x", "x128", "256x128x3", "-8x8", "1.5x2", "\u00b2x2"])
def test_other_sizes_are_errors(text: str) -> None:
    with pytest.raises(OptionError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_what_nobody_typed_is_left_to_the_model() -> None:
    assert with_size({"frames": None, "steps": 3, "unconditional": False}, "8x16") == {
        "steps": 3, "width": 8, "height": 16,
    }  # fmt: skip
