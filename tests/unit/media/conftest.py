import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from kinescribe.media.recipe import Recipe
from kinescribe.media.video import Video
from kinescribe.options import TextToVideo


def moving_ball(frames: int = 8, height: int = 64, width: int = 96) -> np.ndarray:
    """A red ball over a green floor; every second frame repeats its neighbour."""
    y, x = np.mgrid[0:height, 0:width]
    clip = np.empty((frames, height, width, 3), np.uint8)
    clip[...] = (200, 220, 240)
    clip[:, height * 3 // 4 :] = (40, 140, 60)
    for index in range(frames):
        ball = (y - height // 2) ** 2 + (x - 20 - 8 * (index // 2)) ** 2 < 144
        clip[index][ball] = (220, 30, 30)
    return clip


@pytest.fixture
def recipe() -> Recipe:
    request = TextToVideo(prompt="a 'red' <b> \U0001f600\nball \u4f60\u597d", seed=3, fps=8.0, steps=5)
    return Recipe(
        request=request, model="papercut", model_hash="ab" * 32, kinescribe="0.1.0", torch="2.13.0+cpu"
    )


@pytest.fixture
def ball() -> np.ndarray:
    return moving_ball()


@pytest.fixture
def video(ball: np.ndarray, recipe: Recipe) -> Video:
    return Video(frames=ball, fps=8.0, recipe=recipe.as_dict())


@pytest.fixture
def counted() -> Iterator[tuple[int, list[int]]]:
    """A listening port and the list of connections made to it."""
    server = socket.create_server(("127.0.0.1", 0))
    hits: list[int] = []

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            hits.append(1)
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    yield server.getsockname()[1], hits
    server.close()
