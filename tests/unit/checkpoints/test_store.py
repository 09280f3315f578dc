"""Where models lie, and verdicts that are remembered only as long as a file is the same file."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinescribe.catalog import CATALOG
from kinescribe.checkpoints import store
from kinescribe.checkpoints.store import (
    SUMS_FILE,
    list_models,
    model_folder,
    recorded_sums,
    remember_licence,
    remove,
    require_intact,
    verify_files,
)
from kinescribe.errors import OptionError, WeightsError


def recorded(folder: Path, **contents: bytes) -> Path:
    """A folder of files with a record of their sums."""
    folder.mkdir(parents=True)
    files = {}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / SUMS_FILE).write_text(json.dumps({"files": files}))
    return folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    seen: list[str] = []
    real: Callable[[Path], str] = store.sha256

    def counting(path: Path) -> str:
        seen.append(path.name)
        return real(path)

    monkeypatch.setattr(store, "sha256", counting)
    return seen


def test_the_home_is_the_one_environment_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.home() == home
    monkeypatch.delenv("KINESCRIBE_HOME")
    assert store.home() == Path.home() / ".cache" / "kinescribe"


def test_the_store_needs_no_torch() -> None:
    code = "import sys, kinescribe.checkpoints.store, kinescribe.checkpoints.hub; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_model_of_the_catalog_is_listed_then_the_strangers(home: Path) -> None:
    recorded(home / "models" / "potat1", a=b"12345")
    recorded(home / "models" / "my-own", a=b"1")
    (home / "models" / ".potat1.partial").mkdir()
    rows = list_models()
    assert [row.name for row in rows] == [*CATALOG, "my-own"]
    potat = next(row for row in rows if row.name == "potat1")
    assert potat.path == home / "models" / "potat1"
    assert potat.bytes >= 5
    assert rows[-1].spec is None
    assert next(row for row in rows if row.name == "zeroscope-v2-xl").path is None


def test_nothing_is_made_by_looking(home: Path) -> None:
    list_models()
    model_folder(CATALOG["potat1"])
    assert not home.exists()


def test_removing_frees_the_bytes(home: Path) -> None:
    folder = recorded(home / "models" / "potat1", a=b"12345")
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert remove("camenduru/potat1") == size
    assert list((home / "models").iterdir()) == []
    with pytest.raises(OptionError, match="not on this computer"):
        remove("potat1")


@pytest.mark.parametrize("name", ["../potat1", "/", "..", ".", "", "a/b", ".hidden"])
def test_a_path_is_never_removed(home: Path, name: str) -> None:
    recorded(home / "models" / "x", a=b"1")
    with pytest.raises(OptionError):
        remove(name)
    assert (home / "models" / "x" / "a").is_file()


def test_the_embedded_model_stays() -> None:
    with pytest.raises(OptionError, match="comes with the package"):
        remove("papercut")


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, hashed: list[str]) -> None:
    folder = recorded(tmp_path / "m", a=b"1", b=b"2")
    require_intact(folder)
    require_intact(folder)
    assert hashed == ["a", "b"]


@pytest.mark.parametrize("way", ["content", "time", "inode"])
def test_any_change_of_the_file_is_looked_at_again(tmp_path: Path, hashed: list[str], way: str) -> None:
    path = recorded(tmp_path / "m", a=b"1") / "a"
    require_intact(path.parent)
    stamp = path.stat()
    if way == "content":
        path.write_bytes(b"2")
    elif way == "time":
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    else:
        (tmp_path / "new").write_bytes(b"2")
        os.utime(tmp_path / "new", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        (tmp_path / "new").replace(path)
    if way == "time":
        require_intact(path.parent)
    else:
        with pytest.raises(WeightsError, match="changed, sha256"):
            require_intact(path.parent)
    assert hashed == ["a", "a"]


def test_a_verdict_cache_that_is_spoilt_or_cannot_be_written_is_no_matter(tmp_path: Path, home: Path) -> None:
    folder = recorded(tmp_path / "m", a=b"1")
    home.mkdir()
    (home / "verified.json").write_text("[[[")
    require_intact(folder)
    (home / "verified.json").unlink()
    home.rmdir()
    home.write_text("a file where the home should be")
    require_intact(folder)


def test_a_licence_is_remembered_by_model_and_wording(home: Path) -> None:
    spec = CATALOG["potat1"]
    other = replace(spec, licence="another one")
    told = [remember_licence(each) for each in (spec, spec, CATALOG["papercut"], other, other, spec)]
    assert told == [True, False, True, True, False, True]
    (home / "licences.json").write_text("{{{")
    assert remember_licence(spec)


def test_verdicts_name_what_is_wrong(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "m", a=b"1", b=b"22", c=b"3")
    (folder / "a").write_bytes(b"2")
    (folder / "b").write_bytes(b"2")
    (folder / "c").unlink()
    sums = recorded_sums(folder)
    assert sums is not None
    verdicts = {v.path.name: (v.state, v.detail) for v in verify_files(folder, sums, cached=True)}
    assert verdicts["a"][0] == verdicts["b"][0] == "changed"
    assert verdicts["b"][1] == "1 bytes, 2 were written"
    assert verdicts["c"] == ("missing", "not there")


def test_a_record_may_not_leave_its_folder(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "m", a=b"1")
    (folder / SUMS_FILE).write_text(json.dumps({"files": {"../../x": {"bytes": 1, "sha256": "0"}}}))
    with pytest.raises(WeightsError, match="only plain names"):
        require_intact(folder)


def test_no_record_means_no_verdict(tmp_path: Path) -> None:
    assert recorded_sums(tmp_path) is None
