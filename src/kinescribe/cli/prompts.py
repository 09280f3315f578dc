"""Prompts as typed, and whether they may pass: by the usage policy, and by what the models can read."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kinescribe.cli.engine import Engine
from kinescribe.errors import OptionError, PromptWarning
from kinescribe.pipelines.safety import SHIPPED_WORDS, Policy, word_list_policy


def words_or_prompts(arguments: Sequence[str]) -> list[str]:
    """Prompts of the command line: words without quotes are one prompt; if any holds a space, each is a prompt."""
    if len(arguments) > 1 and not any(" " in argument.strip() for argument in arguments):
        return [" ".join(arguments)]
    return list(arguments)


def one_prompt(arguments: Sequence[str]) -> str:
    """The prompt of a command that makes one clip; empty if there is none."""
    prompts = words_or_prompts(arguments)
    if len(prompts) > 1:
        raise OptionError(f"{len(prompts)} prompts: one picture or clip gives one clip, put one in quotes")
    return prompts[0] if prompts else ""


def require_prompts(prompts: Sequence[str]) -> None:
    """OptionError that shows how it is done, if there is no prompt."""
    if not prompts:
        raise OptionError(
            'no prompt: say what the clip shows, as in kinescribe generate "a red ball rolls over the beach"'
        )


def policy_from(words: str | None) -> Policy:
    """The usage policy of a file of refused words; None: the shipped one."""
    return word_list_policy(words or SHIPPED_WORDS)


Judge = Callable[[str], None]
"""Raises PolicyError or OptionError for a prompt that may not pass."""


def judge(policy: Policy | None, *engines: Engine | None, strict: bool) -> Judge:
    """What is asked of each prompt before any weights are read; `strict` as --strict-prompt.

    Raises WeightsError or OptionError for a model that is not there, since only its tokenizer knows what it reads.
    """
    if strict:
        warnings.simplefilter("error", PromptWarning)
    readers = [_reader(engine) for engine in engines if engine is not None] if strict else []

    def decide(prompt: str) -> None:
        if policy is not None:
            policy(prompt)
        for read in readers:
            with strictly():
                read(prompt)

    return decide


def _reader(engine: Engine) -> Judge:
    from kinescribe.checkpoints.detect import describe
    from kinescribe.checkpoints.load import locate
    from kinescribe.pipelines.stages import tokenised

    source = describe(locate(engine.model), variant=None, spec=None)
    if source.tokenizer is None:
        return lambda _: None
    tokenizer = source.tokenizer.load()

    def read(prompt: str) -> None:
        if prompt.strip():
            tokenised(tokenizer, [prompt], source.spec.name)

    return read


@contextmanager
def strictly() -> Iterator[None]:
    """A warning about a prompt that was made an error, as the user's error."""
    try:
        yield
    except PromptWarning as warning:
        raise OptionError(f"{warning} (--strict-prompt)") from None
