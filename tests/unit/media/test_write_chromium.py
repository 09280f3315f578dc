"""A written clip plays in a browser: size, length and the colours of a decoded frame."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

from kinescribe.media.write import write_video

BROWSER = Path("/usr/bin/chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
COLOURS = [(220, 30, 30), (40, 140, 60), (60, 90, 200), (240, 240, 240)]  # one in each quarter
PAGE = """<video id=v muted src=%s></video><script>
const v = document.getElementById("v"), tell = (x) => fetch("/report", {method: "POST", body: JSON.stringify(x)})
v.onerror = () => tell({error: v.error.message})
v.onended = () => {
  const c = document.createElement("canvas"); c.width = v.videoWidth; c.height = v.videoHeight
  const g = c.getContext("2d"); g.drawImage(v, 0, 0)
  const at = (x, y) => [...g.getImageData(x * c.width, y * c.height, 1, 1).data.slice(0, 3)]
  tell({width: v.videoWidth, height: v.videoHeight, seconds: v.duration,
        pixels: [at(.25, .25), at(.75, .25), at(.25, .75), at(.75, .75)]})
}
v.play()</script>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Queue[dict[str, object]]]]:
    """A web page for each file in the folder, and what the pages report."""
    reports: Queue[dict[str, object]] = Queue()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = tmp_path / self.path.lstrip("/")
            found = file.is_file()
            kind = f"video/{file.suffix[1:]}" if found else "text/html"
            body = file.read_bytes() if found else (PAGE % self.path.removeprefix("/play")).encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", reports
    server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER.exists(), reason=f"no {BROWSER} here: the clip cannot be played")
@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_chromium_plays_the_clip_with_its_size_length_and_colours(
    name: str, site: tuple[str, Queue[dict[str, object]]], tmp_path: Path
) -> None:
    picture = np.zeros((128, 192, 3), np.uint8)
    picture[:64, :96], picture[:64, 96:], picture[64:, :96], picture[64:, 96:] = COLOURS
    write_video(np.repeat(picture[None], 16, axis=0), 8, tmp_path / name)
    address, reports = site
    arguments = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"{address}/play/{name}"]
    browser = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        report = reports.get(timeout=90)
    finally:
        browser.terminate()
        browser.wait(timeout=20)
    assert (report["width"], report["height"]) == (192, 128)
    assert abs(float(str(report["seconds"])) - 2.0) < 0.05
    assert np.abs(np.array(report["pixels"], int) - COLOURS).max() <= 6
