import json
from pathlib import Path

import numpy as np
import pytest

from kinescribe.components import Components
from kinescribe.evaluate import animate, papercut, report
from kinescribe.evaluate.generate import Making
from kinescribe.evaluate.papercut import Examiner
from kinescribe.evaluate.prompts import clips_of, held_out_prompts
from kinescribe.world.clip import MOTIONS
from kinescribe.world.judge import Judge
from kinescribe.world.render import render


@pytest.fixture
def examiner(tiny_animator: Components, tiny_judge: Judge) -> Examiner:
    return Examiner(tiny_animator, tiny_judge, Making.of(tiny_animator.spec, batch=2), 3)


def test_examination_writes_sheets_and_plain_figures(
    examiner: Examiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = papercut.render
    monkeypatch.setattr(
        papercut, "render", lambda clips, *, device: small(clips, size=32, frames=4, device=device)
    )
    figures = json.loads(json.dumps(animate.examine(examiner, 3, tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {"made.png", "resting.png"}
    assert figures["made"]["shares"]["four"]["total"] == 3
    first = figures["first_frame"]
    assert first["worst"] <= first["psnr"] < 100 and first["rebuilt"] < 100
    page = animate.as_markdown(figures)
    assert "stills of subjects at rest" in page and "the autoencoder alone gives" in page


def test_first_frames_are_measured_against_their_own_stills(tiny_animator: Components) -> None:
    stills = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    clips = np.repeat(stills[:, None], 4, 1)
    assert animate.begun(tiny_animator, clips, stills)["psnr"] == pytest.approx(100)
    assert animate.begun(tiny_animator, clips[::-1].copy(), stills)["psnr"] < 50


def test_stills_are_first_frames_and_those_at_rest_are_of_the_same_subjects() -> None:
    asked = held_out_prompts(2, 0)
    clips = clips_of(asked)
    stills = animate.stills_of(clips, 32, __import__("torch").device("cpu"))
    assert np.abs(stills.astype(int) - render(clips, size=32, frames=4)[:, 0].numpy().astype(int)).max() <= 1
    resting = animate.at_rest(asked)
    assert (resting.motion == MOTIONS.index("still")).all()
    assert (resting.subject == clips.subject).all() and (resting.seed == clips.seed).all()


def test_grid_has_a_row_for_each_pair(examiner: Examiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animate, "GRID_STEPS", (1, 2))
    monkeypatch.setattr(animate, "GRID_GUIDANCE", (1.0, 2.0))
    rows = animate.try_grid(examiner, 2)
    assert [(row["steps"], row["guidance"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert "guidance" in report.grid_table(rows)


def test_an_absent_model_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["animate", "--model", "no-such-model", "--out", str(tmp_path)])
    assert animate.main() == 2
    assert capsys.readouterr().err.startswith("error: ")
