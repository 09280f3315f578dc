"""The `kinescribe` command: its commands by name, and the one place where errors become exit codes."""

import difflib
import itertools
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import cyclopts

from kinescribe import __version__
from kinescribe.cli.terminal import Terminal, tolerate_any_encoding
from kinescribe.errors import Cancelled, KinescribeError, MemoryLimitError
from kinescribe.pipelines.memory import is_out_of_memory

HELP = """Kinescribe makes short videos from text, pictures and clips.

    kinescribe generate "a red balloon over the sea" -o clip.mp4
    kinescribe animate boat.png "the boat rocks on the waves"
    kinescribe refine clip.mp4

Every command also takes -q (results and errors only) and --debug (tracebacks, warnings of libraries).
"""
COMMANDS = {
    "generate": ("generate:generate", "Make clips from text."),
    "animate": ("animate:animate", "Make a clip from a picture."),
    "refine": ("refine:refine", "Make a clip anew: larger, in more detail, or in other words."),
    "plan": ("plan:plan", "Say what a clip would need of memory and time, without loading weights."),
    "inspect": ("inspect:inspect", "Show what a clip is and how it was made."),
    "remake": ("remake:remake", "Make a clip again from its own recipe, as it was or with changes."),
    "models": ("models:models", "List, check, convert, verify, fetch and remove models."),
    "bench": ("bench:bench", "Time a model on this machine, and show what its time goes to."),
    "doctor": ("doctor:doctor", "Check this machine and installation, with a fix for each fault."),
    "train": ("train:train", "Train a model from a configuration file."),
}
GLOBAL_FLAGS = {"-q": "quiet", "--quiet": "quiet", "--debug": "debug"}
SHOW_CURSOR = b"\x1b[?25h\n"  # a progress bar hides it
USAGE = 2


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; the exit code back. No traceback unless `--debug` is among the arguments."""
    tolerate_any_encoding()
    rest, terminal = _global_flags(arguments)
    commands: list[str] = []
    try:
        with _signals(), warnings.catch_warnings():
            terminal.show_warnings()
            commands = _with_command(rest)
            return _dispatch(commands, terminal)
    except KeyboardInterrupt:
        terminal.complain("cancelled: no unfinished file is left")
        return Cancelled.exit_code
    except cyclopts.CycloptsError as error:
        return _usage(error, commands, terminal)
    except KinescribeError as error:
        return _failed(error, f"error: {error}", terminal, error.exit_code)
    except BrokenPipeError:
        # without this Python complains again when it flushes stdout at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the border: whatever went wrong becomes one line
        if is_out_of_memory(error):
            text = "error: out of memory: use fewer --frames, a smaller --size, or another --device"
            return _failed(error, text, terminal, MemoryLimitError.exit_code)
        hint = "" if terminal.debug else "; run again with --debug for the traceback"
        return _failed(error, f"error: {type(error).__name__}: {error}{hint}", terminal, 1)


def build() -> cyclopts.App:
    """The application; a command's module is imported when the command is called."""
    app = cyclopts.App(
        name="kinescribe", help=HELP, version=f"kinescribe {__version__}", help_format="plaintext"
    )
    for name, (place, help_text) in COMMANDS.items():
        app.command(f"kinescribe.cli.{place}", name=name, help=help_text)
    app.register_install_completion_command(help="Install completion for this shell (bash, zsh, fish).")
    return app


def _dispatch(arguments: Sequence[str], terminal: Terminal) -> int:
    app = build()
    command, bound, unfilled = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    if "terminal" in unfilled:
        bound.arguments["terminal"] = terminal
    code = command(*bound.args, **bound.kwargs)
    return code if isinstance(code, int) else 0


def _global_flags(arguments: Sequence[str]) -> tuple[list[str], Terminal]:
    """Arguments without the flags that every command takes; what follows `--` is left alone."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    found = {GLOBAL_FLAGS[a] for a in arguments[:end] if a in GLOBAL_FLAGS}
    rest = [a for i, a in enumerate(arguments) if i >= end or a not in GLOBAL_FLAGS]
    return rest, Terminal(quiet="quiet" in found, debug="debug" in found)


def _with_command(arguments: Sequence[str]) -> list[str]:
    """A prompt in quotes where a command is expected is meant as `generate`."""
    first = arguments[0] if arguments else ""
    if first.startswith("-") or not first or first in COMMANDS:
        return list(arguments)
    if " " in first.strip():
        return ["generate", *arguments]
    near = difflib.get_close_matches(first, COMMANDS, n=1)
    words = itertools.takewhile(lambda argument: not argument.startswith("-"), arguments)
    advice = f"did you mean {near[0]}?" if near else f'for a clip: kinescribe generate "{" ".join(words)}"'
    raise UsageError(f"no command {first!r}; there are {', '.join(COMMANDS)}; {advice}")


class UsageError(KinescribeError):
    """A command line that says nothing we can do."""

    exit_code = USAGE


def _usage(error: cyclopts.CycloptsError, commands: Sequence[str], terminal: Terminal) -> int:
    depth = 2 if commands[0] == "models" and not isinstance(error, cyclopts.UnknownCommandError) else 1
    words = [word for word in commands[:depth] if not word.startswith("-")]
    text = " ".join(str(error).split()).rstrip(".")
    help_line = " ".join(["kinescribe", *words, "--help"])
    return _failed(error, f"error: {text}; see {help_line}", terminal, USAGE)


def _failed(error: BaseException, text: str, terminal: Terminal, code: int) -> int:
    if terminal.debug:
        traceback.print_exception(error)
    terminal.complain(text)
    return code


@contextmanager
def _signals() -> Iterator[None]:
    """The first Ctrl-C, termination or hang-up unwinds and tidies up, a second one leaves at once."""
    seen: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if seen:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), SHOW_CURSOR)
            os._exit(Cancelled.exit_code)
        seen.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}  # nohup
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
