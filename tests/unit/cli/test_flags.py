import inspect

import pytest

from kinescribe.cli.flags import parse_size, with_size
from kinescribe.cli.generate import generate
from kinescribe.cli.inspect import remake
from kinescribe.errors import OptionError
from kinescribe.options import TextToVideo


def test_every_field_of_a_request_is_a_flag_and_none_is_declared_twice() -> None:
    fields = set(TextToVideo.model_fields)
    assert fields - set(inspect.signature(generate).parameters) == {"prompt"} - {"prompt"}
    assert fields <= set(inspect.signature(remake).parameters)
    code = generate.__wrapped__ if hasattr(generate, "__wrapped__") else generate
    own = set(code.__code__.co_varnames[: code.__code__.co_argcount + code.__code__.co_kwonlyargcount])
    assert own & fields == set()


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
