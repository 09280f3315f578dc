import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kinescribe.cli.progress import Clock, display, watch
from kinescribe.cli.terminal import Terminal
from kinescribe.media.video import Video

VIDEO = Video(frames=np.zeros((1, 8, 8, 3), np.uint8), fps=8.0)


def steps(total: int) -> list[object]:
    return [*(SimpleNamespace(index=i, total=total) for i in range(1, total + 1)), VIDEO]


class Screen(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Terminal(), "line 3") as shown:
        assert watch(steps(50), shown) is VIDEO
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 8 and lines[0] == "line 3: reading the prompt"
    assert any("step 25 of 50" in line and "s left" in line for line in lines) and "decoding" in lines[-1]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Terminal(quiet=True)) as shown:
        watch(steps(5), shown)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_stdout_stays_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with display(Terminal(), "\x1b]0;title\x07") as shown:
        watch(steps(5), shown)
    assert "decoding" in screen.getvalue() and "\x1b]0;" not in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_no_colour_is_written_when_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with display(Terminal()) as shown:
        watch(steps(5), shown)
    assert "\x1b[3" not in screen.getvalue()


def test_the_time_left_follows_the_median_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr("kinescribe.cli.progress.time.monotonic", lambda: next(now))
    clock = Clock()
    assert [clock.tick(n) for n in (3, 2, 1, 0)][1:] == [11.0, 1.0, 0.0]


def test_a_pipeline_that_ends_without_a_video_is_an_error() -> None:
    with display(Terminal(quiet=True)) as shown, pytest.raises(RuntimeError):
        watch(steps(2)[:-1], shown)
