import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goldens import folder
from kinescribe.catalog import CATALOG

FIXTURES = folder("text_to_video")
Cli = Callable[..., Any]


@pytest.fixture
def native(cli: Cli, tmp_path: Path) -> Path:
    """A tiny model in our own layout."""
    assert cli("models", "convert", str(FIXTURES / "diffusers"), "tiny").code == 0
    return tmp_path / "tiny"


def test_list_names_every_model_of_the_catalogue(cli: Cli) -> None:
    text = cli("models", "list").out
    rows = json.loads(cli("models", "list", "--json").out)
    assert [row["name"] for row in rows][: len(CATALOG)] == list(CATALOG)
    assert all(line.startswith(name) for line, name in zip(text.splitlines(), CATALOG, strict=False))


def test_show_tells_licence_defaults_and_faults(cli: Cli) -> None:
    text = cli("models", "show", "modelscope-1.7b").out
    for words in ("CC-BY-NC-4.0", "trained frames  16", "stock-footage", "ali-vilab/text-to-video-ms-1.7b"):
        assert words in text
    assert json.loads(cli("models", "show", "modelscope-1.7b", "--json").out)["steps"] == 25


def test_list_and_show_tell_what_a_model_does(cli: Cli) -> None:
    rows = {row["name"]: row for row in json.loads(cli("models", "list", "--json").out)}
    assert rows["i2vgen-xl"]["kind"] == "image-to-video"
    assert "  video-to-video  " in cli("models", "list").out
    text = cli("models", "show", "damo/Video-to-Video").out
    for words in (
        "video-to-video",
        "noise level",
        "599",
        "positive prompt",
        "row remainder",
        "CC-BY-NC-ND-4.0",
    ):
        assert words in text
    assert "inversion" not in text
    assert json.loads(cli("models", "show", "i2vgen-xl", "--json").out)["condition fps"] == 16


@pytest.mark.parametrize(
    ("name", "kind"), [("i2v", "image-to-video"), ("v2v", "video-to-video"), ("i2vgen-xl", "image-to-video")]
)
def test_check_tells_the_kind_and_convert_keeps_it(cli: Cli, name: str, kind: str) -> None:
    path = str(folder(f"image_and_video_to_video/{name}"))
    done = cli("models", "check", path)
    assert done.code == 0 and f", {kind}, model {name}" in done.out
    assert cli("models", "convert", path, "own").code == 0
    assert json.loads(cli("models", "check", "own", "--json").out)["kind"] == kind
    assert cli("models", "verify", "own").code == 0


def test_an_unknown_model_is_exit_2_with_the_nearest_names(cli: Cli) -> None:
    done = cli("models", "show", "zeroscope")
    assert done.code == 2 and "zeroscope-v2-576w" in done.err


@pytest.mark.parametrize("layout", ["diffusers", "modelscope"])
def test_check_names_every_file_of_a_good_folder(cli: Cli, layout: str) -> None:
    done = cli("models", "check", str(FIXTURES / layout))
    assert done.code == 0 and f"layout  {layout}" in done.out and "missing" not in done.out


def test_check_of_a_folder_with_a_missing_file_is_exit_3_and_names_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(FIXTURES / "modelscope", folder)
    (folder / "VQGAN_autoencoder.pth").unlink()
    done = cli("models", "check", "m")
    assert (
        done.code == 3
        and "missing  VQGAN_autoencoder.pth" in done.out
        and "VQGAN_autoencoder.pth" in done.err
    )
    assert json.loads(cli("models", "check", "m", "--json").out)["ok"] is False


def test_convert_reports_that_every_tensor_is_equal(cli: Cli, native: Path) -> None:
    done = cli("models", "convert", str(native), "back", "--to", "diffusers")
    assert done.code == 0 and "tensors equal to the source" in done.out
    assert cli("models", "convert", str(native), "back").code != 0


def test_a_changed_byte_is_found_by_verify(cli: Cli, native: Path) -> None:
    assert cli("models", "verify", "tiny").code == 0
    data = bytearray((native / "unet.safetensors").read_bytes())
    data[-5] ^= 1
    (native / "unet.safetensors").write_bytes(data)
    done = cli("models", "verify", "tiny")
    assert (
        done.code == 3 and "changed  tiny/unet.safetensors" in done.out and "1 of 4 files differ" in done.err
    )


def test_remove_deletes_from_the_store_only(cli: Cli, native: Path, tmp_path: Path) -> None:
    stored = tmp_path / ".home" / "models" / "mine"
    shutil.copytree(native, stored)
    assert '"mine"' in cli("models", "list", "--json").out
    assert cli("models", "rm", "mine").code == 0 and not stored.exists()
    for name in ("papercut", "mine", "../tiny", str(native)):
        assert cli("models", "rm", name).code == 2
    assert native.is_dir()


def test_pull_says_licence_and_size_and_a_dry_run_fetches_nothing(cli: Cli, tmp_path: Path) -> None:
    done = cli("models", "pull", "modelscope-1.7b", "--dry-run")
    assert done.code == 0 and "CC-BY-NC-4.0" in done.out and "3.67 GB" in done.out
    assert not (tmp_path / ".home").exists()
    assert cli("models", "pull", "papercut").code == 2


def test_pulling_without_a_network_is_exit_3_at_once_and_names_the_remedy(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")

    def unreachable(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    started = time.monotonic()
    done = cli("models", "pull", "zeroscope-v2-576w", "-q")
    assert done.code == 3 and "check the connection and pull again" in done.err and done.err.count("\n") == 1
    assert time.monotonic() - started < 30
