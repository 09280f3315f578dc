"""`kinescribe generate`: clips from prompts on the command line or in a file."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import DEFAULT_MODEL
from kinescribe.cli import flags
from kinescribe.cli.batch import Item, from_file, from_prompts, words_or_prompts
from kinescribe.cli.make import Engine, Saving, check_requests, make_all, make_one, require_prompts
from kinescribe.cli.terminal import Speaker
from kinescribe.errors import OptionError, PolicyError
from kinescribe.pipelines.safety import SHIPPED_WORDS, Policy, word_list_policy

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


@flags.request_flags(leave_out=("prompt",))
def generate(
    *prompt: Prompts,
    output: flags.Output = None,
    model: flags.ModelName = DEFAULT_MODEL,
    size: flags.Size = None,
    count: Count = 1,
    prompt_file: PromptFile = None,
    device: flags.Device = "auto",
    dtype: flags.DType = "auto",
    sheet: flags.Sheet = False,
    overwrite: flags.Overwrite = False,
    as_json: flags.AsJson = False,
    without_metadata: flags.WithoutMetadata = False,
    policy_file: flags.PolicyFile = None,
    without_policy: flags.WithoutPolicy = False,
    strict_prompt: flags.StrictPrompt = False,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Make clips from text."""
    if strict_prompt:
        flags.refuse_doubtful_prompts()
    common = flags.with_size(fields, size)
    saving = Saving(overwrite=overwrite, metadata=not without_metadata, sheet=sheet, as_json=as_json)
    engine = Engine(model=model, device=device, dtype=dtype)
    policy = None if without_policy else policy_from(policy_file)
    if count < 1:
        raise OptionError(f"--count {count}: expected 1 or more")
    if prompt_file is not None:
        if prompt:
            raise OptionError("a prompt beside --prompts: put it into the file, or leave --prompts out")
        items = [_judged(item, policy) for item in from_file(prompt_file, common, count, output)]
        make_all(items, engine, saving, terminal, resume=Path(items[0].target).parent)
        return
    texts = words_or_prompts(prompt)
    if not common.get("unconditional"):
        require_prompts(texts)
    items = from_prompts(texts or [""], common, count, output, overwrite=overwrite)
    for item in items:
        if policy is not None and item.request is not None:
            policy(item.request.prompt)
    if len(items) == 1:
        make_one(items[0], engine, saving, terminal)
        return
    check_requests([item.request for item in items if item.request], model)
    make_all(items, engine, saving, terminal, resume=None)


def policy_from(words: str | None) -> Policy:
    """The usage policy of a file of refused words; None: the shipped one."""
    return word_list_policy(words or SHIPPED_WORDS)


def _judged(item: Item, policy: Policy | None) -> Item:
    """The item; if the usage policy refuses its prompt, with that error in the place of the request."""
    if policy is None or item.request is None:
        return item
    try:
        policy(item.request.prompt)
    except PolicyError as error:
        return replace(item, request=None, error=error)
    return item
