"""Pulling with the hub's own client from a server on this machine, killed on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from kinescribe.checkpoints.check import verify

pytestmark = pytest.mark.slow

REVISION = "5" * 40
WEIGHTS = "unet/diffusion_pytorch_model.bin"
WHOLE = 25_000_000  # the client writes 10 MiB at a time
PIECE = 1 << 18
OTHERS = 20_000
"""Bytes of the largest file beside the weights."""


def published() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    return {
        "model_index.json": b"{}",
        "README.md": b"not asked for",
        "vae/diffusion_pytorch_model.bin": random.bytes(OTHERS),
        WEIGHTS: random.bytes(WHOLE),
    }


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as its client asks of it; gives the weights out slowly while ``pause`` is above 0."""

    files = published()
    pause = 0.0
    given: list[str]

    def do_HEAD(self) -> None:  # noqa: N802 - the name that the server calls
        self._file(whole=False)

    def do_GET(self) -> None:  # noqa: N802
        if "/tree/" in self.path:
            self._answer([self._entry(name) for name in self.files])
        elif self.path.startswith("/api/models/"):
            self._answer({"id": "camenduru/potat1", "sha": REVISION, "siblings": []})
        else:
            self._file(whole=True)

    def log_message(self, *_: object) -> None:
        pass

    def _entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": "a" * 40}
        if name.endswith(".bin"):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 100}
        return entry

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, *, whole: bool) -> None:
        name = self.path.split(f"/resolve/{REVISION}/")[-1]
        data = self.files[name]
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if whole:
            self.given.append(name)
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        for begin in range(start, len(data), PIECE) if whole else ():
            self.wfile.write(data[begin : begin + PIECE])
            time.sleep(self.pause if name == WEIGHTS else 0)


@pytest.fixture
def address() -> Iterator[str]:
    Hub.given, Hub.pause = [], 0.0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] - a killed client is no news
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pull(address: str, folder: Path) -> subprocess.Popen[str]:
    pytest.importorskip("huggingface_hub")
    return subprocess.Popen(
        [sys.executable, "-m", "kinescribe", "models", "pull", "potat1", "-q"],
        env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def arrived(models: Path) -> int:
    """Bytes of the largest file that is on its way; more than ``OTHERS`` are those of the weights."""
    return max((path.stat().st_size for path in models.rglob("*.incomplete")), default=0)


def kill_in_the_middle(address: str, home: Path, folder: Path) -> int:
    Hub.pause = 0.02
    child = pull(address, folder)
    ends = time.monotonic() + 60
    while arrived(home) <= OTHERS and child.poll() is None and time.monotonic() < ends:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.communicate()
    Hub.pause = 0.0
    return arrived(home)


def test_a_pull_killed_in_the_middle_shows_no_model_and_goes_on_with_what_is_missing(
    address: str, home: Path, tmp_path: Path
) -> None:
    there = kill_in_the_middle(address, home, tmp_path)
    assert 0 < there < WHOLE
    assert [path.name for path in (home / "models").iterdir() if not path.name.startswith(".")] == []
    Hub.given.clear()
    said = pull(address, tmp_path).communicate(timeout=60)
    assert "potat1  fetched" in said[0], said[1]
    assert Hub.given == [WEIGHTS]
    model = home / "models" / "potat1"
    for name, data in Hub.files.items():
        assert (model / name).exists() == (name != "README.md")
        assert name == "README.md" or (model / name).read_bytes() == data
    assert verify("potat1").ok
    assert not list((home / "models").rglob("*.partial")) + list((home / "models").rglob("*.incomplete"))


def test_without_the_hub_what_a_killed_pull_left_is_not_taken_for_the_model(
    address: str, home: Path, tmp_path: Path
) -> None:
    kill_in_the_middle(address, home, tmp_path)
    (tmp_path / "elsewhere").mkdir()  # where the client remembers nothing of the first time
    offline = pull("http://127.0.0.1:9", tmp_path / "elsewhere")
    said = offline.communicate(timeout=120)
    assert offline.returncode == 3, said
    assert "pull again" in said[1] and said[1].count("\n") == 1
    assert not (home / "models" / "potat1").exists()


def test_two_pulls_at_once_of_which_one_is_killed_give_one_result(
    address: str, home: Path, tmp_path: Path
) -> None:
    Hub.pause = 0.005
    first, second = pull(address, tmp_path), pull(address, tmp_path)
    while arrived(home) == 0 and first.poll() is None and second.poll() is None:
        time.sleep(0.02)
    first.kill()
    first.communicate()
    said = second.communicate(timeout=60)
    assert second.returncode == 0, said[1]
    assert verify("potat1").ok
