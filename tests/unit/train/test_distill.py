import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import cast

import pytest
import torch
from torch import Generator, Tensor, nn

from goldens import folder
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.native import save_native
from kinescribe.diffusion.samplers import plan, sample
from kinescribe.diffusion.schedule import Level, Schedule
from kinescribe.errors import DataError
from kinescribe.evaluate.generate import Making, generate
from kinescribe.train.config import DistillTraining, load_config
from kinescribe.train.denoising import Batch, Denoising, as_clips, decoded
from kinescribe.train.distill import DistillStage
from kinescribe.train.ranks import join
from kinescribe.train.report import read_log
from kinescribe.train.runs import run
from kinescribe.train.weights import read_whole
from kinescribe.world.clip import sample_clips
from kinescribe.world.grammar import caption

RECIPES = Path(__file__).parents[3] / "recipes"
Tiny = Callable[..., DistillTraining]


class Nothing(nn.Module):
    """A model that answers zero."""

    def forward(self, noisy: Tensor, _t: Tensor, _batch: Batch) -> Tensor:
        return torch.zeros_like(noisy)


@pytest.fixture
def config(tmp_path: Path, model_folder: Path, tiny_distill: Tiny) -> DistillTraining:
    return tiny_distill(tmp_path, model_folder)


@pytest.fixture(scope="module")
def stage(model_folder: Path, tiny_distill: Tiny) -> DistillStage:
    """A stage to look at."""
    return DistillStage(tiny_distill(Path("never-written"), model_folder), join("cpu"))


def changed(config: DistillTraining, **changes: object) -> DistillStage:
    return DistillStage(dataclasses.replace(config, **changes), join("cpu"))  # type: ignore[arg-type]


@pytest.mark.slow
def test_clips_come_nearer_to_the_teachers(tmp_path: Path, model_folder: Path, tiny_distill: Tiny) -> None:
    optimizer = {"learning_rate": 0.01, "ema_decay": 0.5}
    config = tiny_distill(tmp_path, model_folder, steps=20, optimizer=optimizer, first_milestone=False)
    before = DistillStage(config, join("cpu"))
    figures = before.validate(before.model)
    run(config, join("cpu"))
    after = read_log(tmp_path / "log.jsonl")[-2]
    assert after["loss"] < 0.8 * figures["loss"]
    assert after["clip"] < 0.8 * figures["clip"]
    assert after["own"] < 0.8 * figures["own"]
    assert {"phase_1", "phase_2"} <= set(after)
    assert (tmp_path / "samples.png").is_file()


@pytest.mark.slow
def test_a_run_taken_up_equals_a_whole_one_bit_for_bit(
    tmp_path: Path, model_folder: Path, tiny_distill: Tiny, die_at: Callable[..., None]
) -> None:
    run(tiny_distill(tmp_path / "whole", model_folder, steps=8), join("cpu"))
    config = tiny_distill(tmp_path / "parts", model_folder, steps=8)
    die_at(config, 7)
    run(config, join("cpu"))
    whole, parts = (
        (tmp_path / name / "checkpoints" / "step-00000008" / "state.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts


def test_the_export_is_the_teacher_with_another_unet_and_its_settings(
    tmp_path: Path, model_folder: Path, tiny_distill: Tiny
) -> None:
    run(tiny_distill(tmp_path, model_folder, steps=3), join("cpu"))
    export = tmp_path / "export"
    for name in ("text", "vae"):
        theirs = (model_folder / f"{name}.safetensors").read_bytes()
        assert (export / f"{name}.safetensors").read_bytes() == theirs
    assert (export / "unet.safetensors").read_bytes() != (model_folder / "unet.safetensors").read_bytes()
    model, teacher = load_components(export), load_components(model_folder)
    defaults = model.spec.defaults
    assert (defaults.steps, defaults.guidance, defaults.sampler) == (2, 1.0, "ddim")
    assert model.schedule == dataclasses.replace(teacher.schedule, shift=3.0)
    assert model.spec.notes == (
        *teacher.spec.notes,
        "distilled: made for 2 steps of ddim without guidance",
    )


def test_what_is_sampled_is_what_was_trained(tmp_path: Path, stage: DistillStage) -> None:
    export = tmp_path / "export"
    stage.export(stage.model, export)
    model = load_components(export, dtype=torch.float32)
    making = dataclasses.replace(Making.of(model.spec, batch=2), frames=2, width=16, height=16)
    prompts = list(stage.config.sheet_prompts)
    clips = generate(model, prompts, making, seed=0, tell=lambda _: None)
    start = torch.cat([torch.randn(1, *stage.shape, generator=Generator().manual_seed(i)) for i in range(2)])
    with torch.no_grad():
        made = decoded(stage.teacher.vae, stage._made(stage.model, start, stage.tokenizer(prompts).ids)[-1])  # type: ignore[arg-type]
    assert abs(clips.astype(int) - made.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("phase", [0, 1])
def test_a_right_answer_leads_to_the_end_of_the_phase(stage: DistillStage, phase: int) -> None:
    rows = torch.arange(4)
    at = torch.full_like(rows, 2 * phase)
    missing = stage._error(Nothing(), stage.test, rows, at)
    path = plan("ddim", Schedule(stage.schedule.config), 2)

    def right(x: Tensor, level: Level, t: float) -> Tensor:
        clean = stage.schedule.clean(torch.zeros_like(x), x, torch.full((4,), int(t)))
        return clean - missing if level == path.levels[phase] else clean

    leg = dataclasses.replace(
        path, times=path.times[phase:], levels=path.levels[phase:], landings=path.landings[phase:]
    )
    begin, end = (as_clips(stage.test["states"][:, place].float()) for place in (2 * phase, 2 * phase + 2))
    first = next(sample("ddim", right, begin, leg, noise=lambda _: begin))
    torch.testing.assert_close(first.x, end, rtol=0, atol=1e-5)


def test_the_teacher_walks_with_guidance_from_noise_of_its_own(
    stage: DistillStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = stage.words.held_out()
    states = stage._ways(ids, 1)["states"].float()
    assert states.shape == (4, 5, 2, 2, 2, 4)
    assert states[:, 0].std().item() == pytest.approx(1, abs=0.2)
    other, again = stage._ways(ids, 2)["states"].float(), stage._ways(ids, 1)["states"].float()
    assert torch.equal(states, again) and not torch.equal(states[:, 0], other[:, 0])
    monkeypatch.setattr(stage, "config", dataclasses.replace(stage.config, guidance=1.0))
    unguided = stage._ways(ids, 1)["states"].float()
    assert torch.equal(states[:, 0], unguided[:, 0]) and not torch.equal(states[:, -1], unguided[:, -1])


@pytest.mark.parametrize(("share", "visited"), [(0.0, {0, 2}), (0.5, {0, 1, 2, 3})])
def test_samples_begin_where_the_student_will_and_a_share_between(
    stage: DistillStage, monkeypatch: pytest.MonkeyPatch, share: float, visited: set[int]
) -> None:
    changes = {"between_share": share, "batch": 64}
    monkeypatch.setattr(stage, "config", dataclasses.replace(stage.config, **changes))  # type: ignore[arg-type]
    seen: list[int] = []

    def error(_model: object, _kept: object, _rows: object, at: Tensor) -> Tensor:
        seen.extend(at.tolist())
        return torch.zeros(len(at), 1, 1, 1, 1)

    monkeypatch.setattr(stage, "_error", error)
    stage.prepare(0)
    stage.losses(stage.model, 0, Generator().manual_seed(0))
    assert set(seen) == visited
    assert sum(at < 2 for at in seen) == 32


def test_a_student_of_one_step_has_no_states_of_its_own(config: DistillTraining) -> None:
    stage = changed(config, steps=1)
    figures = stage.validate(stage.model)
    assert figures["own"].item() == pytest.approx(figures["loss"].item(), rel=0.02)
    assert figures["own"] > 0.1


def test_a_share_of_words_is_left_out_in_training_alone(
    stage: DistillStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.words, "config", dataclasses.replace(stage.config, condition_dropout=0.5))
    empty = stage.tokenizer([""]).ids[0]
    left_out = sum(int((stage.words.take(i, i) == empty).all(1).sum()) for i in range(4))
    assert 16 <= left_out <= 48
    assert not (stage.words.held_out() == empty).all(1).any()


def test_a_teacher_of_another_layout_is_distilled_on_prompts_of_a_file(
    tmp_path: Path, config: DistillTraining
) -> None:
    prompts = tmp_path / "prompts.txt"
    lines = [f"a {thing} on a table" for thing in ("cup", "cat", "book", "lamp", "pear", "dog")]
    prompts.write_text("\n\n".join(lines) + "\n")
    teacher = folder("text_to_video") / "diffusers"
    cache = dataclasses.replace(config.cache, chunk=4)
    stage = changed(config, teacher=str(teacher), prompts_from=str(prompts), cache=cache)
    assert stage.schedule.config.prediction == "noise" and stage.path.times == (999, 749)
    assert torch.equal(stage.words.held_out(), stage.tokenizer(lines[2:]).ids.int())
    known = {tuple(row) for row in stage.tokenizer([*lines[:2], ""]).ids.tolist()}
    assert {tuple(row) for row in stage.words.take(0, 0).tolist()} <= known
    stage.prepare(0)
    loss = stage.losses(stage.model, 0, Generator().manual_seed(0))["loss"]
    assert torch.isfinite(loss) and loss > 0
    stage.export(stage.model, tmp_path / "export")
    told = json.loads((tmp_path / "export" / "kinescribe.json").read_text())["schedule"]
    assert (told["spacing"], told["final"], told["shift"]) == ("trailing", "clean", 3.0)


def test_words_of_the_world_are_its_captions(stage: DistillStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.words, "config", dataclasses.replace(stage.config, condition_dropout=0.0))
    seed = stage.words.scribe._seed(2)
    rng = Random(seed)
    clips = sample_clips(stage.config.cache.chunk, seed, held_out=False)
    texts = [caption(clips[i], rng) for i in range(len(clips))]
    assert torch.equal(stage.words.take(2, 0), stage.tokenizer(texts).ids.to(torch.int16))


def test_a_teacher_that_does_not_fit_is_an_error(tmp_path: Path, config: DistillTraining) -> None:
    foreign = str(folder("text_to_video") / "diffusers")
    short = tmp_path / "short.txt"
    short.write_text("one\n")
    pictures = str(folder("image_and_video_to_video") / "i2vgen-xl")
    for said, changes in (
        ("set prompts_from", {"teacher": foreign}),
        ("has 1 prompts: give more than validation_clips=4", {"prompts_from": str(short)}),
        ("cannot be read", {"prompts_from": str(tmp_path / "absent.txt")}),
        ("visits times that teacher_steps=87 does not", {"steps": 29, "teacher_steps": 87, "shift": 2.0}),
        ("take a text-to-video one", {"teacher": pictures}),
    ):
        with pytest.raises(DataError, match=said):
            changed(config, **changes)


def test_a_student_starts_from_another_unet_but_keeps_the_teachers_tower(
    config: DistillTraining, model_folder: Path, tmp_path: Path
) -> None:
    other, wanted = read_whole(model_folder), read_whole(model_folder)
    assert other.text is not None and wanted.text is not None
    with torch.no_grad():
        for parameter in (*other.unet.parameters(), *other.text.parameters()):
            parameter += 0.5
    save_native(
        tmp_path / "other", unet=other.unet, vae=other.vae, text=other.text, tokenizer=other.tokenizer,
        schedule=other.schedule, spec=other.spec,
    )  # fmt: skip
    stage = changed(config, init_from=str(tmp_path / "other"))
    student = cast(Denoising, stage.model)
    assert torch.equal(student.unet.head.bias, other.unet.head.bias)
    assert student.text is not None and stage.teacher.text is student.text
    for mine, theirs in zip(student.text.parameters(), wanted.text.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("teacher_steps=4", "teacher_steps=4 must be 2, 3, ... times steps=4"),
        ("teacher_steps=18", "teacher_steps=18 must be 2, 3, ... times steps=4"),
        ("steps=0", "times steps=0"),
        ("validation_clips=0", "validation_clips=0 must lie in [1, inf]"),
        ("shift=0.5", "shift=0.5 must lie in [1, 10]"),
        ("between_share=2", "between_share=2.0 must lie in [0, 1]"),
        ("unet.width=3", "unknown key unet"),
    ],
)
def test_a_faulty_setting_is_an_error_that_names_it(setting: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_config(RECIPES / "papercut_distil.toml", [setting])
    assert said in str(caught.value)
