"""The embedded models are in the package, small, whole, and as good as their cards say."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinescribe.catalog import CATALOG
from kinescribe.catalog.papercut import ANIMATE, REFINE
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.store import model_folder, recorded_sums, verify_files
from kinescribe.cli.app import run
from kinescribe.components import Components
from kinescribe.evaluate import animate, refine, report
from kinescribe.evaluate.conditioned import Refiner
from kinescribe.evaluate.generate import Making
from kinescribe.evaluate.papercut import Examiner
from kinescribe.evaluate.prompts import clips_of, held_out_prompts
from kinescribe.evaluate.scores import shares
from kinescribe.media.read import read_recipe, read_video
from kinescribe.pipelines.device import pick_device, pick_dtype
from kinescribe.world.judge import ASSETS as JUDGE
from kinescribe.world.judge import Judge

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EMBEDDED = [spec for spec in CATALOG.values() if spec.embedded]
EXAMINED = [
    spec.name for spec in EMBEDDED if list(RESULTS.glob(f"*_{spec.name.replace('-', '_')}_exam*.json"))
]
SISTERS_BYTES, ALL_BYTES = 14_000_000, 32_000_000


def folder(name: str) -> Path:
    place = model_folder(CATALOG[name])
    assert place is not None, f"{name} has no weights"
    return place


def figures(name: str) -> dict[str, Any]:
    """The newest examination of a model."""
    path = max(RESULTS.glob(f"*_{name.replace('-', '_')}_examination.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def as_users_load(name: str) -> Components:
    device = pick_device("cpu")
    return load_components(name, device=device, dtype=pick_dtype("auto", device))


@pytest.mark.parametrize("name", [spec.name for spec in EMBEDDED])
def test_an_embedded_model_is_whole_and_has_a_card(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path))  # verdicts on files are kept there
    place = folder(name)
    sums = recorded_sums(place)
    assert sums and [verdict.state for verdict in verify_files(place, sums, cached=False)] == [
        "intact"
    ] * len(sums)
    assert {path.name for path in place.iterdir()} <= {"README.md", "kinescribe.json", *sums}
    assert (place / "README.md").is_file()


def test_the_weights_stay_small() -> None:
    sizes = {
        spec.name: sum(path.stat().st_size for path in folder(spec.name).glob("*.safetensors"))
        for spec in EMBEDDED
    }
    assert sizes[ANIMATE.name] + sizes[REFINE.name] <= SISTERS_BYTES
    assert sum(sizes.values()) <= ALL_BYTES


@pytest.mark.parametrize("name", EXAMINED)
def test_what_was_examined_is_what_is_shipped(name: str) -> None:
    assert figures(name)["model"]["hash"] == load_components(name).model_hash


def test_the_card_of_animate_tells_what_its_examination_found() -> None:
    card, found = (folder(ANIMATE.name) / "README.md").read_text(encoding="utf-8"), figures(ANIMATE.name)
    for row in ("made", "resting", "truth"):
        cells = " | ".join(report.cell(share) for share in found[row]["shares"].values())
        assert f"| {cells.replace('100.0', '100')} |" in card
    assert (
        f"{found['first_frame']['psnr']:.1f} dB on average, {found['first_frame']['worst']:.1f} at the worst"
        in card
    )


@pytest.mark.slow
def test_animate_begins_with_its_still_and_shows_what_is_asked() -> None:
    components, asked = as_users_load(ANIMATE.name), held_out_prompts(6, seed=11)
    examiner = Examiner(components, Judge.load(JUDGE), Making.of(ANIMATE, batch=2), seed=11)
    stills = animate.stills_of(clips_of(asked), ANIMATE.defaults.width, components.device)
    made = animate.judged(examiner, asked, stills, examiner.making)
    assert animate.begun(components, made.clips, stills)["psnr"] > 27
    right = {name: share.right for name, share in shares(made.right).items()}
    assert right["colour"] == right["scene"] == right["time"] == 6
    assert right["subject"] >= 5 and right["motion"] >= 5


@pytest.mark.slow
def test_refine_draws_sharper_edges_nearer_to_the_truth(tmp_path: Path) -> None:
    assert REFINE.refinement is not None
    components, strength = as_users_load(REFINE.name), (REFINE.refinement.noise_level + 1) / 1000
    refiner = Refiner(components, as_users_load("papercut"), Making.of(REFINE, batch=1), strength, seed=11)
    found = refine.examine(refiner, Judge.load(JUDGE), 3, tmp_path)
    for kind in ("drawn", "rebuilt"):
        assert found[kind]["means"]["refined_psnr"] > found[kind]["means"]["bicubic_psnr"] + 0.5
    for kind in ("drawn", "rebuilt", "generated"):
        assert found[kind]["ratios"]["refined_ratio"] > 1.3
        right = {when: found[kind]["judged"][when]["four"]["right"] for when in ("before", "after")}
        assert right["after"] >= right["before"]


@pytest.mark.slow
def test_a_still_is_animated_and_refined_in_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINESCRIBE_HOME", str(tmp_path / ".home"))
    assert run(["generate", "a white boat on the sea", "--frames", "1", "--seed", "0", "-o", "boat/"]) == 0
    words = "a white boat moving left on the sea"
    assert (
        run(["animate", "boat/frame-0001.png", words, "--seed", "0", "--refine", "-o", "out.mp4", "--json"])
        == 0
    )
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["similarity"] > 0.9 and facts["motion"] > 2
    assert read_video("out.mp4").frames.shape == (16, 256, 256, 3)
    recipe: Any = read_recipe("out.mp4")
    assert (recipe["before"]["model"], recipe["model"]) == (ANIMATE.name, REFINE.name)
