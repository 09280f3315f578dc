import pytest

from kinescribe.cli.terminal import Terminal, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red ball", "a red ball"),
        ("你好 \U0001f600 é", "你好 \U0001f600 é"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("one\ntwo\r\t", "one\\ntwo\\r\\t"),
        ("\u202eback\u2069", "\\u202eback\\u2069"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
    ],
)
def test_only_characters_that_steer_the_terminal_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_results_go_to_stdout_and_news_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.result("answer")
    terminal.note("news")
    assert capsys.readouterr() == ("answer\n", "news\n")


def test_quiet_keeps_results_and_complaints(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True)
    terminal.result("answer")
    terminal.note("news")
    terminal.complain("error")
    assert capsys.readouterr() == ("answer\n", "error\n")
