"""The way in to the command line."""

import os

import pytest

from kinescribe import __main__
from kinescribe.cli import app


@pytest.mark.parametrize(("own", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_without_spinning_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, own: str | None, seen: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", own or "")
    if own is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    told: list[str] = []

    def run(_argv: list[str]) -> int:
        told.append(os.environ["OMP_WAIT_POLICY"])
        return 3

    monkeypatch.setattr(app, "run", run)
    with pytest.raises(SystemExit, match="3"):
        __main__.main()
    assert told == [seen]
