"""What the user sees: results on stdout, everything else on stderr, nothing that could steer the terminal."""

import io
import json
import logging
import sys
import unicodedata
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that move the cursor, change direction, or hide: control, format, surrogates, separators."""

WIDE = 110
"""Columns of a table at most, as of the code."""

JOINERS = "\u200c\u200d"  # part of Persian, Indic and emoji spelling


def visible(text: object) -> str:
    r"""Text with control, direction and escape characters written out, as `\x1b` or `\u202e`."""
    return "".join(_shown(ch) for ch in str(text))


def _shown(ch: str) -> str:
    if ch in JOINERS or unicodedata.category(ch) not in UNSAFE:
        return ch
    return ch.encode("unicode_escape", "surrogatepass").decode("ascii")


@dataclass(frozen=True)
class Terminal:
    """Where a command speaks: `quiet` leaves results and errors only, `debug` adds tracebacks."""

    quiet: bool = False
    debug: bool = False

    @property
    def live(self) -> bool:
        """Whether a moving progress bar makes sense: stderr is a terminal, and not quiet."""
        return not self.quiet and sys.stderr.isatty()

    def result(self, text: str) -> None:
        """One line of the answer, on stdout."""
        _line(sys.stdout, visible(text))

    def data(self, value: Mapping[str, Any] | list[Any]) -> None:
        """One JSON value on one line of stdout."""
        _line(sys.stdout, json.dumps(value))

    def note(self, text: str) -> None:
        """One line of news on stderr, unless quiet."""
        if not self.quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """One line on stderr, quiet or not."""
        _line(sys.stderr, visible(text))

    def show_warnings(self) -> None:
        """From now on print each of our warnings once, as one line; those of libraries only with `debug`."""
        said: set[str] = set()

        def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
            text = str(message)
            ours = category.__module__.startswith("kinescribe")
            if text not in said and (ours or self.debug):
                said.add(text)
                self.note(f"warning: {text}")

        warnings.simplefilter("always")
        warnings.showwarning = show
        if not self.debug:  # torch built for CUDA logs that it lacks Triton, which no system but Linux has
            logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)


Speaker = Annotated[Terminal, Parameter(parse=False)]
"""The type of a command's `terminal` argument, which the command line fills in by itself."""


def _line(stream: Any, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def tolerate_any_encoding() -> None:
    """Let stdout and stderr write characters they cannot encode as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def drawn(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A table in lines of text, numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    lines = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        lines.add_column(head, justify="left" if place == 0 and len(rows) > 1 else "right")
    for row in rows:
        lines.add_row(*row)
    paper = io.StringIO()
    Console(file=paper, width=WIDE, color_system=None).print(lines)
    return [line.rstrip() for line in paper.getvalue().splitlines() if line.strip()]
