from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.errors import OptionError, WriteError
from kinescribe.media.sheet import tile
from kinescribe.media.video import Video


def test_the_sheet_shows_every_frame_in_reading_order(ball: np.ndarray) -> None:
    picture = tile(ball, columns=3)
    assert picture.shape == (3 * 66, 3 * 98, 3)
    assert np.array_equal(picture[66 : 66 + 64, 98 : 98 + 96], ball[4])
    assert (picture[2 * 66 :, 2 * 98 :] == 255).all()


def test_a_long_clip_is_thinned_with_first_and_last_kept() -> None:
    clip = np.repeat(np.arange(200, dtype=np.uint8), 8 * 8 * 3).reshape(200, 8, 8, 3)
    picture = tile(clip)
    assert picture.shape == (80, 80, 3) and picture[0, 0, 0] == 0 and picture[71, 71, 0] == 199


def test_a_sheet_is_written_whole_with_the_recipe(video: Video, tmp_path: Path) -> None:
    path = video.sheet(tmp_path / "s.png", 4)
    with Image.open(path) as picture:
        assert picture.size == (4 * 98, 2 * 66) and "AI-generated" in picture.info["comment"]
    with pytest.raises(WriteError, match="exists"):
        video.sheet(path)
    with pytest.raises(OptionError, match="columns"):
        video.sheet(path, 0, overwrite=True)
