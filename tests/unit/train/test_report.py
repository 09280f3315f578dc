import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinescribe.errors import KinescribeWarning
from kinescribe.train import report
from kinescribe.train.report import Log, draw_curve, read_log, write_samples


def filled_log(path: Path) -> Path:
    log = Log(path, silent=False)
    for step in range(1, 6):
        log.write("train", step=step, loss=1 / step)
    log.write("validation", step=5, loss=0.3)
    return path


def test_the_log_reads_back_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    path = filled_log(tmp_path / "log.jsonl")
    with path.open("a") as file:
        file.write('{"kind": "train", "st')
    lines = read_log(path)
    assert len(lines) == 6
    assert lines[2] == {"kind": "train", "step": 3, "loss": 0.333333}


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Log(tmp_path / "log.jsonl", silent=True).write("train", step=1)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("matplotlib", [True, False])
def test_the_curve_is_drawn_with_and_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matplotlib: bool
) -> None:
    if matplotlib:
        pytest.importorskip("matplotlib")
    else:
        for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
            monkeypatch.setitem(sys.modules, name, None)
    draw_curve(filled_log(tmp_path / "log.jsonl"), tmp_path / "loss.png")
    picture = np.asarray(Image.open(tmp_path / "loss.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3


def test_a_sheet_shows_a_row_of_frames_for_each_clip(tmp_path: Path) -> None:
    clips = np.zeros((3, 16, 8, 8, 3), np.uint8)
    write_samples(clips, tmp_path / "sheet.png")
    width, height = Image.open(tmp_path / "sheet.png").size
    assert (width, height) == (8 * 10, 3 * 10)


def test_a_plotting_package_that_is_too_old_is_left_aside_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled_log(tmp_path / "log.jsonl")
    monkeypatch.setattr("kinescribe.checkpoints.extras.version", lambda _: "3.8.4")
    monkeypatch.setattr(report, "_plot", lambda *_: pytest.fail("the old package was used"))
    with pytest.warns(KinescribeWarning, match=r"matplotlib 3\.8\.4 is installed and 3\.9 or newer needed"):
        draw_curve(log, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").is_file()
