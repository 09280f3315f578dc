"""Pulling: licence first, resumable, sealed with sums; tested with a stand-in for the hub's client."""

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from goldens import folder
from kinescribe.catalog import CATALOG, DEFAULT_MODEL
from kinescribe.checkpoints import hub
from kinescribe.checkpoints.check import verify
from kinescribe.checkpoints.hub import pull
from kinescribe.checkpoints.load import load_components
from kinescribe.errors import MissingExtraError, OptionError, WeightsError, WriteError

FIXTURE = folder("text_to_video/diffusers")


def deliver(_name: str, folder: Path, _patterns: Sequence[str]) -> None:
    """What a hub's client does, from a folder on this disk."""
    shutil.copytree(FIXTURE, folder, dirs_exist_ok=True)


def test_a_pulled_model_is_sealed_loadable_and_intact(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    report = pull("potat1", tell=told.append, fetch=deliver)
    assert report.state == "fetched"
    assert report.target == home / "models" / "potat1"
    assert report.bytes > 1_000_000
    assert told[0].startswith("licence of potat1: CC-BY-NC-4.0")
    assert "GB from camenduru/potat1" in told[1]
    assert verify("potat1").ok
    monkeypatch.setattr("kinescribe.checkpoints.store.sha256", lambda _: pytest.fail("hashed again"))
    assert load_components("potat1").spec.name == "potat1"
    monkeypatch.undo()
    monkeypatch.setenv("KINESCRIBE_HOME", str(home))
    path = report.target / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not verify("potat1").ok
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors: changed"):
        load_components("potat1")


def test_a_dry_run_and_a_second_pull_fetch_nothing(home: Path) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError

    report = pull("zeroscope-v2-576w", dry_run=True, fetch=refuse)
    assert (report.state, report.hub, report.id) == ("dry run", "huggingface", "cerspense/zeroscope_v2_576w")
    assert report.bytes > 1e9
    assert "unet/diffusion_pytorch_model.bin" in report.patterns
    assert not home.exists()
    pull("potat1", fetch=deliver)
    assert pull("potat1", fetch=refuse).state == "already here"


def test_either_hub_and_any_published_id_can_be_named() -> None:
    base = "modelscope-1.7b"
    assert pull(base, dry_run=True).id == "ali-vilab/text-to-video-ms-1.7b"
    assert pull(base, "modelscope", True).id == "iic/text-to-video-synthesis"
    wanted = "ali-vilab/modelscope-damo-text-to-video-synthesis"
    assert pull(base, wanted, True).id == pull(base, f"huggingface:{wanted}", True).id == wanted
    assert pull("damo-vilab/text-to-video-ms-1.7b", dry_run=True).name == base
    with pytest.raises(OptionError, match="modelscope-1.7b is at huggingface:ali-vilab"):
        pull(base, "github", True)


def test_a_layout_can_be_named_where_one_id_has_two() -> None:
    xl = "i2vgen-xl"
    assert "unet/*.fp16.safetensors" in pull(xl, dry_run=True).patterns
    vgen = pull(xl, "vgen", True)
    assert (vgen.hub, vgen.id) == ("huggingface", "ali-vilab/i2vgen-xl")
    assert "models/i2vgen_xl_00854500.pth" in vgen.patterns
    assert pull(xl, "modelscope", True).id == "iic/I2VGen-XL"
    assert "i2vgen_xl_00854500.pth" in pull(xl, "modelscope", True).patterns
    for name in ("modelscope-image-to-video", "modelscope-video-to-video"):
        assert {"configuration.json", "v2-1_512-ema-pruned.ckpt"} < set(pull(name, dry_run=True).patterns)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (DEFAULT_MODEL, "comes with the package"),
        ("vgen-t2v", "not published"),
        ("vgen-sr600", "not published"),
    ],
)
def test_what_cannot_be_pulled_is_said(name: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        pull(name)


def test_an_interrupted_pull_goes_on_where_it_stopped(home: Path) -> None:
    def break_off(_name: str, folder: Path, _patterns: Sequence[str]) -> None:
        shutil.copy(FIXTURE / "model_index.json", folder)
        raise ConnectionError("the line is down\nsecond line")

    with pytest.raises(WeightsError, match="the line is down.*pull again") as caught:
        pull("potat1", fetch=break_off)
    assert "\n" not in str(caught.value)
    assert not (home / "models" / "potat1").exists()

    def go_on(name: str, folder: Path, patterns: Sequence[str]) -> None:
        assert (folder / "model_index.json").is_file()
        deliver(name, folder, patterns)

    assert pull("potat1", fetch=go_on).state == "fetched"
    assert not any(path.name.endswith(".partial") for path in (home / "models").iterdir())


def test_a_file_that_is_not_the_published_one_is_refused() -> None:
    source = CATALOG["modelscope-1.7b"].sources[0]
    name = source.files[0].path

    def forge(_name: str, folder: Path, _patterns: Sequence[str]) -> None:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"something else")

    with pytest.raises(WeightsError, match=f"{name} is not the published file"):
        pull("modelscope-1.7b", fetch=forge)


def test_an_empty_repository_is_an_error() -> None:
    with pytest.raises(WeightsError, match="no weights came"):
        pull("potat1", fetch=lambda *_: None)


def test_a_home_that_cannot_be_written_is_a_write_error(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(WriteError, match="cannot be written"):
        pull("potat1", fetch=deliver)


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    monkeypatch.setitem(sys.modules, "modelscope_hub.compat.snapshot_download", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kinescribe\[hub\]'"):
        pull("modelscope-1.7b", source)


def test_huggingfaces_client_gets_the_id_the_folder_and_the_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, set[str]]] = []

    def snapshot(name: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        assert revision == "ab12"
        asked.append((name, set(allow_patterns)))
        deliver(name, local_dir, allow_patterns)

    monkeypatch.setattr(client.HfApi, "model_info", lambda *_: SimpleNamespace(sha="ab12"))
    monkeypatch.setattr(client, "snapshot_download", snapshot)
    monkeypatch.setattr(CATALOG["potat1"].sources[0].__class__, "files", (), raising=False)
    pull("potat1")
    assert asked[0][0] == "camenduru/potat1"
    assert {"model_index.json", "unet/diffusion_pytorch_model.bin"} <= asked[0][1]


def _pull_in_turn(turn: int) -> tuple[int, str, list[str]]:
    """Pull as the first of two, who goes on once the second waits, or as the second, who comes while it fetches."""
    home, told = Path(os.environ["KINESCRIBE_HOME"]), []

    def tell(line: str) -> None:
        if line.startswith("waiting"):
            told.append(line)
            (home / "waits").touch()

    def fetch(name: str, folder: Path, patterns: Sequence[str]) -> None:
        with (folder / "log").open("a") as stream:
            stream.write("x")
        (home / "fetches").touch()
        _await(home / "waits")
        deliver(name, folder, patterns)

    if turn == 1:
        _await(home / "fetches")
    return os.getpid(), hub.pull("potat1", fetch=fetch, tell=tell).state, told


def _await(sign: Path) -> None:
    end = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < end:
        time.sleep(0.01)


def test_two_processes_that_pull_at_once_give_one_result_and_the_second_names_the_first(home: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        first, second = pool.map(_pull_in_turn, range(2), chunksize=1)
    assert first[1:] == ("fetched", []) and second[1] == "fetched"
    assert [line.split(" (since ")[0] for line in second[2]] == [f"waiting for process {first[0]}"]
    assert (home / "models" / "potat1" / "log").read_text() == "x"
    sums = json.loads((home / "models" / "potat1" / "kinescribe-sums.json").read_text())["files"]
    assert "unet/diffusion_pytorch_model.safetensors" in sums
    assert verify("potat1").ok
