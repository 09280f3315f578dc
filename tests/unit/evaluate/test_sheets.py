from pathlib import Path

import numpy as np
from PIL import Image

from kinescribe.evaluate.sheets import write_judged


def reddish(pixels: np.ndarray) -> bool:
    return bool((pixels[:, 0] > pixels[:, 1] + 60).any())


def greenish(pixels: np.ndarray) -> bool:
    return bool((pixels[:, 1] > pixels[:, 0] + 60).any())


def test_sheet_has_a_row_a_clip_and_marks_in_green_and_red(tmp_path: Path) -> None:
    clips = np.zeros((2, 16, 32, 32, 3), dtype=np.uint8)
    right = {"subject": np.array([1, 1]), "colour": np.array([0, -1])}
    write_judged(tmp_path / "sheet.png", clips, ["a red cat", "a cat"], right, side=48)
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape == (2 * 80, 8 * 50, 3)
    above, below = (part.reshape(-1, 3).astype(int) for part in (picture[:30], picture[80:110]))
    assert reddish(above) and greenish(above)
    assert not reddish(below) and greenish(below)
