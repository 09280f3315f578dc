"""`kinescribe generate`: clips from prompts on the command line or in a file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import DEFAULT_MODEL
from kinescribe.cli import flags
from kinescribe.cli.batch import Item, from_file, from_prompts
from kinescribe.cli.make import make_all, make_one
from kinescribe.cli.prompts import Judge, require_prompts, words_or_prompts
from kinescribe.cli.terminal import Speaker
from kinescribe.cli.work import check, second_after
from kinescribe.errors import KinescribeError, OptionError
from kinescribe.options import TextToVideo

Prompts = Annotated[
    str,
    Parameter(
        help="What the clip shows. Words without quotes are one prompt; several prompts in quotes make several clips."
    ),
]
Count = Annotated[
    int,
    Parameter(help="Clips of each prompt; clip i uses the seed + i.", converter=flags.whole_number),
]
PromptFile = Annotated[
    str | None,
    Parameter(
        name="--prompts",
        help="A file with a prompt on each line, or .jsonl with an object of options on each line. Clips go to the "
        "folder/ given by -o, by default one named like the file. Run again, it makes only what is missing. Line i "
        "without a seed uses --seed (else 0) + i - 1.",
    ),
]


@flags.second_flags
@flags.request_flags(TextToVideo, leave_out=("prompt",))
def generate(
    *prompt: Prompts,
    model: flags.ModelName = DEFAULT_MODEL,
    count: Count = 1,
    prompt_file: PromptFile = None,
    making: flags.Making = flags.USUAL,
    refining: flags.Refining = flags.UNREFINED,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Make clips from text."""
    common, again = flags.two_stages(fields, making.size, refining.refine_size)
    engine = making.engine(model, "text-to-video")
    second = refining.engine(making, again, after=engine)
    judge = making.judge(engine, second)
    saving = making.saving()
    if count < 1:
        raise OptionError(f"--count {count}: expected 1 or more")
    if prompt_file is not None:
        if prompt:
            raise OptionError("a prompt beside --prompts: put it into the file, or leave --prompts out")
        items = _refined(from_file(prompt_file, common, count, making.output), again, second is not None)
        items = [_judged(item, judge) for item in items]
        make_all(items, engine, saving, terminal, resume=Path(items[0].target).parent, second=second)
        return
    texts = words_or_prompts(prompt)
    if not common.get("unconditional"):
        require_prompts(texts)
    items = from_prompts(texts or [""], common, count, making.output, overwrite=making.overwrite)
    items = _refined(items, again, second is not None)
    for item in items:
        assert item.request is not None
        judge(item.request.prompt)
    if len(items) == 1:
        make_one(items[0], engine, saving, terminal, second=second)
        return
    for item in items:
        check(item, engine, second)
    make_all(items, engine, saving, terminal, resume=None, second=second)


def _refined(items: Sequence[Item], fields: dict[str, Any], wanted: bool) -> list[Item]:
    """The items, with a second stage of these fields if one is wanted."""
    return [replace(item, second=second_after(item.request, fields)) if wanted else item for item in items]


def _judged(item: Item, judge: Judge) -> Item:
    """The item; if its prompt may not pass, with that error in the place of the request."""
    try:
        if item.request is not None:
            judge(item.request.prompt)
    except KinescribeError as error:
        return replace(item, request=None, error=error)
    return item
