"""The policy hook refuses whole words of its list, whatever their dress, and nothing else."""

from pathlib import Path

import pytest

from kinescribe.errors import OptionError, PolicyError
from kinescribe.pipelines.safety import word_list_policy


@pytest.mark.parametrize(
    "prompt", ["a nude figure", "NUDE", "a Núde", "a sex-scene", "mass   shooting in a city"]
)
def test_listed_words_are_refused(prompt: str) -> None:
    with pytest.raises(PolicyError) as caught:
        word_list_policy()(prompt)
    assert caught.value.exit_code == 8


@pytest.mark.parametrize(
    "prompt", ["a red balloon", "denuded hills", "Essex at night", "", "a panda on a rock"]
)
def test_harmless_words_that_contain_a_listed_one_pass(prompt: str) -> None:
    word_list_policy()(prompt)


def test_another_list_replaces_the_shipped_one(tmp_path: Path) -> None:
    words = tmp_path / "mine.txt"
    words.write_text("# remark\nballoon  # no balloons\n", encoding="utf-8")
    check = word_list_policy(words)
    check("nude")
    with pytest.raises(PolicyError, match="balloon"):
        check("a balloon")


def test_an_empty_list_refuses_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    word_list_policy(tmp_path / "empty.txt")("anything")


def test_a_list_that_cannot_be_read_is_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        word_list_policy(tmp_path / "absent.txt")
