import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from kinescribe.evaluate import refine
from kinescribe.evaluate.conditioned import Refiner
from kinescribe.world.judge import Judge


@pytest.mark.filterwarnings("ignore::kinescribe.errors.KinescribeWarning")
def test_examination_writes_sheets_and_plain_figures(
    tiny_refiner: Refiner, tiny_judge: Judge, tmp_path: Path
) -> None:
    figures = json.loads(json.dumps(refine.examine(tiny_refiner, tiny_judge, 3, tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {"drawn.png", "rebuilt.png", "generated.png"}
    drawn, rebuilt, generated = (figures[kind] for kind in ("drawn", "rebuilt", "generated"))
    assert drawn["means"]["autoencoder_psnr"] == rebuilt["means"]["autoencoder_psnr"]
    assert drawn["means"]["bicubic_psnr"] > rebuilt["means"]["bicubic_psnr"]
    assert set(generated["means"]) == {"bicubic_sharpness", "refined_sharpness"}
    assert drawn["ratios"]["bicubic_ratio"] == 1 and drawn["ratios"]["true_ratio"] > 1
    assert generated["judged"]["after"]["four"]["total"] == 3
    page = refine.as_markdown(figures)
    assert "strength 0.3" in page and "generated, after" in page


def test_a_refiner_that_gives_the_truth_is_found_right_and_one_that_changes_nothing_soft(
    tiny_refiner: Refiner, tiny_judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truths: list[np.ndarray] = []
    cases = refine._cases

    def watched(*arguments: object):  # type: ignore[no-untyped-def]
        for case in cases(*arguments):  # type: ignore[arg-type]
            if case.true is not None:
                truths.append(case.true)
            yield case

    monkeypatch.setattr(refine, "_cases", watched)
    monkeypatch.setattr(Refiner, "__call__", lambda *_: truths[-1])
    figures = refine.examine(tiny_refiner, tiny_judge, 2, tmp_path)["drawn"]
    assert figures["means"]["refined_psnr"] == pytest.approx(100)
    assert figures["ratios"]["refined_ratio"] == pytest.approx(figures["ratios"]["true_ratio"]) != 1


def test_grid_has_a_row_for_each_pair(tiny_refiner: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "GRID_STRENGTHS", (0.1, 0.2))
    monkeypatch.setattr(refine, "GRID_STEPS", (1, 2))
    rows = refine.try_grid(tiny_refiner, 3)
    assert [(row["strength"], row["steps"]) for row in rows] == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    assert len({row["psnr"] for row in rows}) > 1
    assert refine.grid_table(rows).count("\n") == 6


def test_the_whole_examination_is_a_command(
    tiny_refiner: Refiner, tiny_judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = {"large": tiny_refiner.components, "small": tiny_refiner.small}
    monkeypatch.setattr(refine.command, "loaded", lambda _, name: found[name])
    monkeypatch.setattr(refine.command, "judge_of", lambda _: tiny_judge)
    told = [
        "refine",
        "--model",
        "large",
        "--small",
        "small",
        "--count",
        "2",
        "--out",
        str(tmp_path),
        "--grid",
    ]
    monkeypatch.setattr("sys.argv", told)
    monkeypatch.setattr(refine, "GRID_STRENGTHS", (0.1,))
    assert refine.main() == 0
    assert (tmp_path / "grid.md").read_text() in capsys.readouterr().out
    small = dataclasses.replace(tiny_refiner.components, spec=tiny_refiner.small.spec)
    monkeypatch.setattr(refine.command, "loaded", lambda *_: small)
    assert refine.main() == 2
    assert "refines no clips" in capsys.readouterr().err
