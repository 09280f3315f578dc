"""The way in to the command line."""

import os

import pytest

from kinescribe import __main__
from kinescribe.cli import app


@pytest.mark.parametrize(("own", "seen"), [(None, ("PASSIVE", "3000")), ("ACTIVE", ("ACTIVE", None))])
def test_threads_hardly_spin_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, own: str | None, seen: tuple[str, str | None]
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", own or "")
    if own is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    told: list[tuple[str, str | None]] = []

    def run(_argv: list[str]) -> int:
        told.append((os.environ["OMP_WAIT_POLICY"], os.environ.get("GOMP_SPINCOUNT")))
        return 3

    monkeypatch.setattr(app, "run", run)
    with pytest.raises(SystemExit, match="3"):
        __main__.main()
    assert told == [seen]
