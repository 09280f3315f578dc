import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kinescribe
from kinescribe.catalog import CATALOG
from kinescribe.cli.app import run
from kinescribe.errors import MemoryLimitError, NumbersError
from kinescribe.media.recipe import Recipe
from kinescribe.media.video import Video
from kinescribe.models.adapters import Adapters
from kinescribe.options import TextToVideo, text_to_video
from kinescribe.pipelines.settings import resolve


@dataclass
class FakePipeline:
    """Coloured noise by seed, in place of a model; prompts with "fail" fail, "crash" crash, "stop" are interrupted.

    `lists` are the prompts of each call with a list; more than `room` of them at once are out of memory.
    """

    made: list[TextToVideo] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)
    room: int = 100
    spec = CATALOG["papercut"]
    components = SimpleNamespace(
        model_hash="ab" * 8, device="cpu", dtype="torch.float32", adapters=Adapters({})
    )

    def stream(self, request: TextToVideo | list[str], **options: Any) -> Iterator[Any]:
        if isinstance(request, TextToVideo):
            return self._stream(request)
        self.lists.append(request)
        if len(request) > self.room:
            raise MemoryLimitError("out of memory while denoising")
        seed = options.pop("seed")
        asked = [text_to_video(prompt=text, seed=seed + i, **options) for i, text in enumerate(request)]
        return self._together(asked)

    def _together(self, requests: list[TextToVideo]) -> Iterator[Any]:
        videos = []
        for request in requests:
            *steps, video = self._stream(request)
            videos.append(video)
        yield from steps
        yield videos

    def _stream(self, request: TextToVideo) -> Iterator[Any]:
        job = resolve(request, self.spec)
        for index in range(1, job.steps + 1):
            if index == 2 and "stop" in job.prompt:
                raise KeyboardInterrupt
            if "fail" in job.prompt:
                raise NumbersError("step 1: the UNet gave numbers that are not finite: try float32")
            if "too big" in job.prompt:
                raise MemoryError
            if "crash" in job.prompt:
                raise RuntimeError("deep inside")
            yield SimpleNamespace(index=index, total=job.steps, stage="denoising")
        self.made.append(request)
        rng = np.random.default_rng(job.seed)
        frames = rng.integers(0, 256, (job.frames, job.height, job.width, 3), dtype=np.uint8)
        recipe = Recipe(
            request=job.request(),
            model=self.spec.name,
            model_hash=self.components.model_hash,
            kinescribe=kinescribe.__version__,
            torch="2.13.0",
        )
        yield Video(frames=frames, fps=job.fps, recipe=recipe.as_dict())


@dataclass
class Done:
    """What one command line gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: fake)
    return fake


Cli = Callable[..., Done]


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in an empty folder, with whatever models it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path / ".home"))
    capsys.readouterr()

    def command(*arguments: str) -> Done:
        code = run(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return command


@pytest.fixture
def cli(pipeline: FakePipeline, real: Cli) -> Cli:
    """The same with the fake pipeline as every model."""
    assert not pipeline.made
    return real


@dataclass
class Server:
    """An HTTP server on this machine that counts who asks."""

    address: str
    hits: list[str]


@pytest.fixture
def server() -> Iterator[Server]:
    hits: list[str] = []

    class Counting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(f"{self.command} {self.path}")
            self.send_error(404)

        do_POST = do_PUT = do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on stderr, which tests read."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield Server(f"http://127.0.0.1:{listening.server_port}", hits)
        listening.shutdown()
