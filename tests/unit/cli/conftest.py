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
from kinescribe.errors import NumbersError
from kinescribe.media.recipe import Recipe
from kinescribe.media.video import Video
from kinescribe.options import TextToVideo
from kinescribe.pipelines.settings import resolve


@dataclass
class FakePipeline:
    """Coloured noise by seed, in place of a model; prompts with "fail" fail, "crash" crash, "stop" are interrupted."""

    made: list[TextToVideo] = field(default_factory=list)
    spec = CATALOG["papercut"]
    components = SimpleNamespace(model_hash="ab" * 8, device="cpu", dtype="torch.float32")

    def stream(self, request: TextToVideo) -> Iterator[Any]:
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
            yield SimpleNamespace(index=index, total=job.steps)
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
def cli(
    pipeline: FakePipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """Run a command line in an empty folder, with the fake pipeline as every model."""
    assert not pipeline.made
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path / ".home"))
    capsys.readouterr()

    def command(*arguments: str) -> Done:
        code = run(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return command


SMALL = ("--size", "16x16", "--frames", "2", "--steps", "2")
