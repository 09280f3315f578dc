from pathlib import Path
from typing import Any

import pytest

from goldens import folder
from kinescribe.cli.engine import Engine
from kinescribe.cli.prompts import judge, one_prompt, words_or_prompts
from kinescribe.errors import OptionError, PolicyError, WeightsError
from kinescribe.pipelines.safety import word_list_policy

V2V = str(folder("image_and_video_to_video/v2v"))
I2V = str(folder("image_and_video_to_video/i2v"))


def engine(model: str) -> Engine:
    return Engine(model=model, task="video-to-video", device="cpu", dtype="auto")


@pytest.mark.parametrize(
    ("typed", "prompts"),
    [
        ((), []),
        (("a ball",), ["a ball"]),
        (("a", "red", "ball"), ["a red ball"]),
        (("a ball", "cat"), ["a ball", "cat"]),
    ],
)
def test_words_are_one_prompt_and_quoted_ones_are_several(typed: tuple[str, ...], prompts: list[str]) -> None:
    assert words_or_prompts(typed) == prompts
    if len(prompts) > 1:
        with pytest.raises(OptionError, match="2 prompts"):
            one_prompt(typed)
    else:
        assert one_prompt(typed) == "".join(prompts)


def test_every_model_that_reads_the_prompt_is_asked_and_its_tokenizer_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kinescribe.checkpoints.source import TokenizerFiles

    read: list[Any] = []
    load = TokenizerFiles.load

    def counting(self: TokenizerFiles) -> Any:
        read.append(self)
        return load(self)

    monkeypatch.setattr(TokenizerFiles, "load", counting)
    decide = judge(None, engine("papercut"), None, engine(V2V), engine(I2V), strict=True)
    for prompt in ("a red ball", "", "   "):
        decide(prompt)
    assert len(read) == 2  # i2v reads no text
    with pytest.raises(OptionError, match=r"papercut does not know 'wug'.*--strict-prompt"):
        decide("a wug")
    judge(None, engine(V2V), strict=True)("a wug")


def test_without_strictness_no_model_is_looked_at() -> None:
    decide = judge(None, engine("/nowhere"), strict=False)
    decide("a wug")
    with pytest.raises(WeightsError):
        judge(None, engine("/nowhere"), strict=True)


def test_the_policy_comes_first(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("wug\n")
    decide = judge(word_list_policy(tmp_path / "words.txt"), engine("papercut"), strict=True)
    with pytest.raises(PolicyError):
        decide("a wug")
