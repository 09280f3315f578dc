"""Several clips from one command: prompt files, copies, file names, and what is already done."""

import itertools
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinescribe.cli.source import Source
from kinescribe.errors import KinescribeError, OptionError
from kinescribe.media.output import EXTENSIONS
from kinescribe.options import ImageToVideo, TextToVideo, VideoToVideo, text_to_video

DEFAULT_NAME = "clip.mp4"
DRAWN_SEEDS = 2**32  # seeds nobody chose stay short enough to type
SLUG_LENGTH = 40


@dataclass(frozen=True, kw_only=True)
class Item:
    """One clip to make: what to call it in messages, its request or why there is none, and where it goes.

    `source` is what is put in; `second` is what a second model is asked to make of the clip.
    """

    label: str
    request: TextToVideo | ImageToVideo | VideoToVideo | None
    error: KinescribeError | None
    target: str
    source: Source | None = None
    second: VideoToVideo | None = None


def read_prompts(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | OptionError]]:
    """Line number (from 1) and fields of each line of a prompt file, or what is wrong with that line.

    `.jsonl`: an object of request fields, or a string, on each line. Any other name: a prompt on each line; empty
    lines and lines that begin with `#` are skipped. OptionError if the file cannot be read.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise OptionError(
            f"--prompts {str(path)!r} cannot be read ({error}): give a UTF-8 text file"
        ) from error
    read = _json_line if source.suffix.lower() in (".jsonl", ".ndjson") else _text_line
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped and not (read is _text_line and stripped.startswith("#")):
            yield number, read(stripped)


def _text_line(line: str) -> dict[str, Any]:
    return {"prompt": line}


def _json_line(line: str) -> dict[str, Any] | OptionError:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return OptionError(f'not JSON ({error}): write an object, such as {{"prompt": "a red ball"}}')
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict):
        return OptionError(f"expected an object or a string, not {type(value).__name__}")
    return value


def from_file(path: str | Path, common: dict[str, Any], copies: int, output: str | None) -> list[Item]:
    """The items of a prompt file: a line's own fields win over `common`.

    Line i (from 1) without a seed takes the file's seed + i - 1, and copy j of a line its seed + j, so a line's
    recipe stays the same whatever happens to the other lines. The file's seed is `common["seed"]`, else 0.
    """
    text_to_video(**{**common, "prompt": "any"})  # a bad flag is one error, not one for each line
    first_seed = common.get("seed", 0)
    folder, stem, suffix = _place(output, Path(path).stem)
    items = []
    for number, line in read_prompts(path):
        for copy in range(copies):
            request, error = _request(line, common, default_seed=first_seed + number - 1, copy=copy)
            slug = stem or (_slug(request.prompt) if request else "")
            name = "-".join(
                part for part in (f"{number:03}", slug, f"{copy + 1}" if copies > 1 else "") if part
            )
            label = f"line {number}" + (f", copy {copy + 1}" if copies > 1 else "")
            items.append(
                Item(label=label, request=request, error=error, target=str(folder / (name + suffix)))
            )
    if not items:
        raise OptionError(f"--prompts {str(path)!r} holds no prompt: write one on each line")
    return items


def from_prompts(
    prompts: Sequence[str], common: dict[str, Any], copies: int, output: str | None, *, overwrite: bool
) -> list[Item]:
    """The items of prompts on the command line, `copies` of each; item i uses the seed + i.

    One item goes to `output` itself. Several go to `clip-1.mp4`, `clip-2.mp4` ... beside it, or into it if it is a
    folder. Without `output`, names that are taken are passed over.
    """
    texts = [prompt for prompt in prompts for _ in range(copies)]
    seed = common.get("seed", secrets.randbelow(DRAWN_SEEDS))
    requests = [text_to_video(**{**common, "prompt": t, "seed": seed + i}) for i, t in enumerate(texts)]
    targets = _targets(len(texts), output, overwrite=overwrite)
    return [
        Item(label=f"clip {i} of {len(texts)}", request=request, error=None, target=target)
        for i, (request, target) in enumerate(zip(requests, targets, strict=True), start=1)
    ]


def alike(items: Sequence[Item]) -> int:
    """How many of the first items can be one list for a pipeline: they differ in prompt, and the seed counts up."""
    first = items[0].request
    for index, item in enumerate(items):
        if first is None or item.request is None or first.seed is None:
            return 1
        if item.request != first.model_copy(
            update={"prompt": item.request.prompt, "seed": first.seed + index}
        ):
            return index
    return len(items)


def finished(folder: Path) -> dict[str, Path]:
    """Recipe hashes of the clips in `folder`, each with its file."""
    from kinescribe.media.read import read_recipe
    from kinescribe.media.recipe import Recipe

    found = {}
    for file in sorted(folder.glob("*")) if folder.is_dir() else []:
        if file.suffix.lower() in EXTENSIONS:
            try:
                found[Recipe.model_validate(read_recipe(file)).hash()] = file
            except KinescribeError:
                continue  # not a clip of ours
    return found


def _request(
    line: dict[str, Any] | OptionError, common: dict[str, Any], *, default_seed: int, copy: int
) -> tuple[TextToVideo | None, KinescribeError | None]:
    if isinstance(line, OptionError):
        return None, line
    fields = common | {"seed": default_seed} | line
    try:
        request = text_to_video(**fields)
        return text_to_video(**(fields | {"seed": (request.seed or 0) + copy})), None
    except KinescribeError as error:
        return None, error
    except TypeError as error:
        return None, OptionError(str(error))


def _place(output: str | None, folder: str) -> tuple[Path, str, str]:
    """Folder, stem (empty: the prompt's words) and extension of the clips of a prompt file."""
    if output is None:
        return Path(folder), "", ".mp4"
    path = Path(output)
    if output.endswith("/") or path.is_dir() or not path.suffix:
        return path, "", ".mp4"
    return path.parent, path.stem, path.suffix


def _targets(total: int, output: str | None, *, overwrite: bool) -> list[str]:
    if total == 1 and output is not None:
        return [output]
    folder, stem, suffix = _place(output or DEFAULT_NAME, "")
    stem = stem or "clip"
    if output is not None:
        return [str(folder / f"{stem}-{i}{suffix}") for i in range(1, total + 1)]
    names = (folder / (f"{stem}-{i}{suffix}" if i else stem + suffix) for i in itertools.count())
    free = (str(name) for name in names if overwrite or not name.exists())
    return list(itertools.islice(free, total))


def _slug(prompt: str) -> str:
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    slug = ""
    for word in words:
        if len(slug) + len(word) + 1 > SLUG_LENGTH:
            break
        slug = f"{slug}-{word}" if slug else word
    return slug
