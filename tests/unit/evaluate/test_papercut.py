import json
from pathlib import Path

import pytest

from kinescribe.components import Components
from kinescribe.evaluate import papercut, report
from kinescribe.evaluate.generate import Making
from kinescribe.evaluate.prompts import held_out_prompts
from kinescribe.world.judge import Judge


@pytest.fixture
def examiner(tiny_components: Components, tiny_judge: Judge) -> papercut.Examiner:
    return papercut.Examiner(tiny_components, tiny_judge, Making.of(tiny_components.spec, batch=8), 3)


@pytest.mark.filterwarnings("ignore::kinescribe.errors.KinescribeWarning")  # some plain words are unknown
def test_examination_writes_sheets_and_plain_figures(
    examiner: papercut.Examiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renders = examiner.made(held_out_prompts(5, 0))  # the true renders are slow on a CPU
    monkeypatch.setattr(
        papercut.Examiner, "rendered", lambda self, asked: self.judged(asked, renders.clips[: len(asked)])
    )
    figures = papercut.examine(examiner, 5, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "held_out.png",
        "pairs.png",
        "plain.png",
        "truth.png",
    }
    again = json.loads(json.dumps(figures))
    assert again["held_out"]["shares"]["four"]["total"] == 5
    assert again["pairs"]["both"]["total"] == 1
    page = report.as_markdown(again)
    assert "| generated |" in page and "two subjects" in page and "mistaken" in page


def test_true_renders_are_judged_like_generated_clips(
    examiner: papercut.Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = held_out_prompts(2, 1)
    small = papercut.render
    monkeypatch.setattr(
        papercut, "render", lambda clips, *, device: small(clips, size=32, frames=4, device=device)
    )
    part = examiner.rendered(asked)
    assert part.clips.shape == (2, 4, 32, 32, 3)
    assert set(part.right) == {"subject", "colour", "scene", "time", "motion", "camera"}


def test_grid_has_a_row_for_each_pair_and_repeats_the_best(
    examiner: papercut.Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papercut, "GRID_STEPS", (1, 2))
    monkeypatch.setattr(papercut, "GRID_GUIDANCE", (1.0, 2.0))
    rows = papercut.try_grid(examiner, 3)
    assert [(row["steps"], row["guidance"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert report.grid_table(rows).count("\n") == 2 + 4 + 1


def test_an_absent_model_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["papercut", "--model", "no-such-model", "--out", str(tmp_path)])
    assert papercut.main() == 2
    assert capsys.readouterr().err.startswith("error: ")
