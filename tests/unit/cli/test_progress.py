import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kinescribe.cli.progress import Clock, display, watch
from kinescribe.cli.terminal import Terminal
from kinescribe.media.video import Video

VIDEO = Video(frames=np.zeros((1, 8, 8, 3), np.uint8), fps=8.0)


def steps(total: int, stage: str = "denoising") -> list[object]:
    return [*(SimpleNamespace(index=i, total=total, stage=stage) for i in range(1, total + 1)), VIDEO]


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
    assert [clock.tick(n, 4) for n in (1, 2, 3, 4)][1:] == [11.0, 1.0, 0.0]


def test_the_time_left_of_a_stage_does_not_know_the_steps_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([0.0, 10.0, 20.0, 21.0, 22.0])
    monkeypatch.setattr("kinescribe.cli.progress.time.monotonic", lambda: next(now))
    clock = Clock()
    assert [clock.tick(n, 2) for n in (1, 2, 1, 2)] == [10.0, 0.0, 1.0, 0.0]


TWO_STAGES = [
    *steps(4, "first stage, denoising")[:-1],
    *steps(2, "second stage, inverting")[:-1],
    *steps(8, "second stage, denoising"),
]


def test_a_log_says_of_each_line_which_stage_it_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Terminal()) as shown:
        watch(TWO_STAGES, shown, "reading the picture")
    lines = [
        line.split(",")[0] + line.partition(",")[2].split(",")[0]
        for line in capsys.readouterr().err.splitlines()
    ]
    assert lines[0] == "reading the picture"
    assert [line for line in lines if "step 2 of" in line] == [
        "first stage denoising: step 2 of 4", "second stage inverting: step 2 of 2",
        "second stage denoising: step 2 of 8",
    ]  # fmt: skip
    assert lines.count("decoding frames") == 2


def test_a_bar_serves_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with display(Terminal()) as shown:
        for event in TWO_STAGES[:-1]:
            shown.step(event.index, event.total, event.stage)  # type: ignore[attr-defined]
            shown._bars.refresh()  # type: ignore[attr-defined]  # rich draws a few times a second
    text = screen.getvalue()
    assert all(f"{stage}, denoising" in text for stage in ("first stage", "second stage"))
    assert "4/4" in text and "8/8" in text


def test_a_pipeline_that_ends_without_a_video_is_an_error() -> None:
    with display(Terminal(quiet=True)) as shown, pytest.raises(RuntimeError):
        watch(steps(2)[:-1], shown)
