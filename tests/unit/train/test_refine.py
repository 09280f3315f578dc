import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kinescribe.catalog.papercut import REFINE
from kinescribe.checkpoints.load import load_components
from kinescribe.diffusion.denoiser import at_trained_levels
from kinescribe.diffusion.samplers import sample
from kinescribe.diffusion.schedule import Level
from kinescribe.diffusion.sdedit import noised, second_stage
from kinescribe.errors import DataError
from kinescribe.media.fit import fit_frames
from kinescribe.train import refine
from kinescribe.train.config import RefineTraining, load_config
from kinescribe.train.data import Drawing, draw
from kinescribe.train.denoising import Batch
from kinescribe.train.diffusion import DiffusionStage
from kinescribe.train.ranks import join
from kinescribe.train.refine import RefineTask, enlarged
from kinescribe.train.runs import run

RECIPES = Path(__file__).parents[3] / "recipes"
CPU = torch.device("cpu")
Tiny = Callable[..., RefineTraining]


@pytest.fixture
def task(tmp_path: Path, model_folder: Path, vae_folder: Path, tiny_refine: Tiny) -> RefineTask:
    return RefineTask(tiny_refine(tmp_path, model_folder, vae_folder), CPU)


def a_batch(n: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    true, off = torch.randn(2, n, 4, 2, 3, 3, generator=generator)
    ids = torch.zeros(n, 48, dtype=torch.int64)
    return Batch(latents=true, ids=ids, enlarged=true + 0.1 * off)


def test_the_export_is_a_whole_model_that_says_where_it_starts(
    tmp_path: Path, model_folder: Path, vae_folder: Path, tiny_refine: Tiny
) -> None:
    config = dataclasses.replace(tiny_refine(tmp_path, model_folder, vae_folder, steps=3), strength=0.08)
    run(config, join("cpu"))
    export = tmp_path / "export"
    assert (export / "text.safetensors").read_bytes() == (model_folder / "text.safetensors").read_bytes()
    assert (export / "vae.safetensors").read_bytes() == (vae_folder / "vae.safetensors").read_bytes()
    spec = load_components(export).spec
    assert spec.refinement is not None and spec.refinement.noise_level == 79
    assert spec.refinement.consistent_start
    assert spec.defaults == REFINE.defaults
    assert (tmp_path / "samples.png").is_file()


@pytest.mark.slow
def test_a_run_taken_up_equals_a_whole_one_bit_for_bit(
    tmp_path: Path, model_folder: Path, vae_folder: Path, tiny_refine: Tiny, die_at: Callable[..., None]
) -> None:
    folders = (model_folder, vae_folder)
    run(tiny_refine(tmp_path / "whole", *folders, steps=14), join("cpu"))
    config = tiny_refine(tmp_path / "parts", *folders, steps=14, milestone_steps=7)
    die_at(config, 10)
    run(config, join("cpu"))
    whole, parts = (
        tmp_path / name / "checkpoints" / "step-00000014" / "state.safetensors" for name in ("whole", "parts")
    )
    assert whole.read_bytes() == parts.read_bytes()
    changed = load_file(whole)
    stage = DiffusionStage(config, join("cpu"))
    start = stage.model.state_dict()
    assert torch.equal(start["text.tokens.weight"], changed["model.text.tokens.weight"])
    assert not torch.equal(start["unet.head.weight"], changed["model.unet.head.weight"])


def test_a_way_begins_at_the_enlarged_clip(task: RefineTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "OWN_SHARE", 1.0)
    monkeypatch.setattr(refine, "STRAIGHT_SHARE", 1.0)
    batch = a_batch(3)
    eps = torch.randn(batch.latents.shape)
    t = torch.full((3,), task.levels - 1)
    mixed = task.schedule.corrupt(
        batch.latents, task.noise(batch, eps, t, torch.Generator().manual_seed(0)), t
    )
    assert batch.enlarged is not None
    torch.testing.assert_close(mixed, task.schedule.corrupt(batch.enlarged, eps, t))


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun"])
def test_the_model_is_trained_on_what_a_solver_with_right_estimates_passes_through(
    task: RefineTask, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setattr(refine, "OWN_SHARE", 1.0)
    monkeypatch.setattr(refine, "STRAIGHT_SHARE", 1.0)
    batch, schedule = a_batch(1), task.schedule
    assert batch.enlarged is not None
    path = second_stage(sampler, schedule, 4, strength=task.config.strength, consistent_start=True)
    eps = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(2))
    seen: list[float] = []

    def right(x: torch.Tensor, _: Level, t: float) -> torch.Tensor:
        at = torch.tensor([round(t)])
        lean = task.noise(batch, eps, at, torch.Generator().manual_seed(0))
        trained = schedule.corrupt(batch.latents, lean, at)
        # a solver's times lie up to half a step beside those of the tables
        seen.append(float((x - trained).abs().max() / (batch.enlarged - batch.latents).abs().max()))  # type: ignore[operator]
        return batch.latents

    steps = sample(
        sampler, at_trained_levels(right, schedule), noised(path, batch.enlarged, eps), path, noise=_none
    )
    *_, last = steps
    assert len(seen) >= 4 and max(seen) < 0.1
    torch.testing.assert_close(last.x, batch.latents, rtol=0, atol=1e-5)


def _none(_index: int) -> torch.Tensor:
    raise AssertionError("this solver draws no noise")


def test_weaker_starts_and_noisy_solvers_are_trained_for_too(task: RefineTask) -> None:
    n = 4000
    batch = a_batch(n)
    assert batch.enlarged is not None
    t = torch.randint(task.levels, (n,), generator=torch.Generator().manual_seed(1))
    lean = task.noise(batch, torch.zeros_like(batch.latents), t, torch.Generator().manual_seed(0))
    share = (lean / (batch.enlarged - batch.latents)).mean(dim=(1, 2, 3, 4)) / task.carried[task.levels - 1]
    own = (share - 1).abs() < 1e-3
    assert own.float().mean().item() == pytest.approx(refine.OWN_SHARE, abs=0.03)
    assert share.min() < 0.1 and 1.5 < share.max() < 4
    left = task.schedule.noise[t] / task.schedule.signal[t] * share * task.carried[task.levels - 1]
    assert left.max() <= 1 + 1e-3  # never more than the whole difference


def test_half_of_the_clips_are_worn_and_all_are_enlarged(task: RefineTask) -> None:
    frames = torch.randint(0, 256, (60, 2, 8, 8, 3), dtype=torch.uint8)
    large = task._enlarged(frames, torch.Generator().manual_seed(0))
    assert large.shape == (60, 2, 16, 16, 3)
    sharp, soft = enlarged(frames, 16, "lanczos"), enlarged(frames, 16, "bilinear")
    same = [(large == other).flatten(1).all(1) for other in (sharp, soft)]
    clean = (same[0] | same[1]).float().mean().item()
    assert clean == pytest.approx(1 - task.config.worn_share, abs=0.2)
    assert 0 < same[1].sum() < same[0].sum()


@pytest.mark.parametrize("sizes", [(8, 16), (128, 256)])
def test_clips_are_enlarged_as_they_will_be_in_use(sizes: tuple[int, int]) -> None:
    old, new = sizes
    frames = torch.randint(
        0, 256, (1, 2, old, old, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    wanted = fit_frames(frames[0].numpy(), new, new, "crop").astype(int)
    assert np.abs(enlarged(frames, new, "lanczos")[0].numpy().astype(int) - wanted).max() <= 1


def test_what_is_kept_of_a_clip_belongs_together(task: RefineTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(_vae: object, frames: torch.Tensor, _at_once: int) -> torch.Tensor:
        return frames.unflatten(3, (2, 8)).unflatten(2, (2, 8)).float().mean(dim=(3, 5)) / 255

    monkeypatch.setattr(refine, "encoded", plain)
    task = RefineTask(dataclasses.replace(task.config, worn_share=0.0), CPU)
    drawing = Drawing(count=12, captions=1, context_length=48, held_out=False)
    kept = task.kept(draw(drawing, 5), 5, figures=True)
    assert kept["figures"].shape == (12, 2, 2, 2)
    own = (kept["enlarged"] - kept["latents"]).square().mean()
    others = (kept["enlarged"].roll(1, 0) - kept["latents"]).square().mean()
    assert own < 0.02 * others


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("strength=0", "strength=0.0 must lie in (0, 1]"),
        ("worn_share=2", "worn_share=2.0 must lie in [0, 1]"),
        ("image_share=1", "image_share=1.0 must lie in [0, 1)"),
        ("text.width=3", "unknown key text"),
    ],
)
def test_a_faulty_setting_is_an_error_that_names_it(setting: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_config(RECIPES / "papercut_refine.toml", [setting])
    assert said in str(caught.value)
