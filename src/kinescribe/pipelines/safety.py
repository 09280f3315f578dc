"""The usage policy as a hook: a prompt goes in, nothing or a ``PolicyError`` comes out."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from kinescribe.errors import OptionError, PolicyError

Policy = Callable[[str], None]
"""Raises ``PolicyError`` for a prompt that must not be made; replaceable by any function of this shape."""

SHIPPED_WORDS = Path(__file__).parents[1] / "assets" / "policy" / "words.txt"


def word_list_policy(path: str | Path = SHIPPED_WORDS) -> Policy:
    """A policy that refuses the words and phrases of a file, one a line, ``#`` before a remark.

    Whole words count, whatever their case, accents and spacing. Raises ``OptionError`` if the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"policy file {str(path)!r} cannot be read ({error}): give a text file of words"
        ) from None
    phrases = [_plain(line.split("#", 1)[0]) for line in lines]
    pattern = "|".join(re.escape(phrase) for phrase in phrases if phrase)
    refused = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)" if pattern else r"(?!)")

    def check(prompt: str) -> None:
        found = refused.search(_plain(prompt))
        if found:
            raise PolicyError(
                f"the usage policy refuses {found.group()!r}: change the prompt "
                "(see USE_POLICY.md; --policy FILE uses another list)"
            )

    return check


def _plain(text: str) -> str:
    """Lower case without accents, runs of spaces and hyphens as one space."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(ch for ch in letters if not unicodedata.combining(ch))
    return " ".join(re.split(r"[\s\-_]+", bare.strip()))
