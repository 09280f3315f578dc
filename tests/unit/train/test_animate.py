import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinescribe.catalog.papercut import ANIMATE
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.source import blank
from kinescribe.errors import DataError
from kinescribe.models.image_conditions import ImageConditions
from kinescribe.models.unet import UNet
from kinescribe.models.vision import VisionEncoder
from kinescribe.train.animate import LATEST, AnimateTask
from kinescribe.train.config import AnimateTraining, RefineTraining, VAETraining, load_config
from kinescribe.train.data import draw
from kinescribe.train.denoising import Batch, Denoising, vision_pixels
from kinescribe.train.diffusion import DiffusionStage
from kinescribe.train.ranks import join
from kinescribe.train.report import read_log
from kinescribe.train.runs import run
from kinescribe.train.weights import read_whole
from kinescribe.world.clip import sample_clips

RECIPES = Path(__file__).parents[3] / "recipes"
ASSETS = Path(__file__).parents[3] / "src" / "kinescribe" / "assets" / "papercut"
Tiny = Callable[..., AnimateTraining]
Die = Callable[..., None]
BYTES_BESIDE_PAPERCUT = 14_000_000
HEADERS = 200_000


def count(*configs: object) -> int:
    return sum(p.numel() for config in configs for p in blank(config).parameters())  # type: ignore[arg-type]


def test_both_new_models_fit_the_package_beside_what_they_share_with_papercut() -> None:
    animate, refine, vae = (
        load_config(RECIPES / f"papercut_{name}.toml") for name in ("animate", "refine", "refine_vae")
    )
    assert isinstance(animate, AnimateTraining) and isinstance(refine, RefineTraining)
    assert isinstance(vae, VAETraining)
    numbers = count(animate.unet, animate.conditions, animate.vision, refine.unet, vae.vae)
    assert 2 * numbers + HEADERS <= BYTES_BESIDE_PAPERCUT


@pytest.mark.parametrize("name", ["animate", "refine"])
def test_the_real_sizes_take_an_optimizer_step(name: str) -> None:
    config = load_config(RECIPES / f"papercut_{name}.toml")
    assert isinstance(config, AnimateTraining | RefineTraining)
    _, text = read_whole(ASSETS).require_text()
    parts = ()
    if isinstance(config, AnimateTraining):
        parts = (ImageConditions(config.conditions), VisionEncoder(config.vision))  # type: ignore[assignment]
    model = Denoising(UNet(config.unet), text, *parts)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    batch = Batch(
        latents=torch.randn(1, 4, 2, 16, 16),
        ids=torch.zeros(1, 48, dtype=torch.int64),
        still=torch.zeros(1, 128, 128, 3, dtype=torch.uint8),
        shown=torch.ones(1, dtype=torch.bool),
        fps=torch.tensor([8.0]),
    )
    before = model.unet.head.weight.clone()
    (model(batch.latents, torch.tensor([500]), batch) - batch.latents).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.unet.head.weight, before)
    assert all(parameter.grad is None for parameter in text.parameters())


def test_the_export_is_a_whole_model_with_the_given_text_tower_and_autoencoder(
    tmp_path: Path, model_folder: Path, tiny_animate: Tiny
) -> None:
    run(tiny_animate(tmp_path, model_folder, steps=3), join("cpu"))
    export = tmp_path / "export"
    for part in ("text", "vae"):
        name = f"{part}.safetensors"
        assert (export / name).read_bytes() == (model_folder / name).read_bytes()
    components = load_components(export)
    assert components.conditions is not None and components.vision is not None
    assert components.spec == ANIMATE
    assert components.schedule.prediction == "velocity" and components.schedule.zero_terminal_snr
    assert (tmp_path / "samples.png").is_file()


def test_everything_but_the_text_tower_learns(tmp_path: Path, model_folder: Path, tiny_animate: Tiny) -> None:
    config = tiny_animate(tmp_path, model_folder, steps=4)
    start = {
        name: tensor.clone()
        for name, tensor in DiffusionStage(config, join("cpu")).model.state_dict().items()
    }
    run(config, join("cpu"))
    ended = load_file(tmp_path / "checkpoints" / "step-00000004" / "state.safetensors")
    changed = {name.split(".")[0] for name in start if not torch.equal(start[name], ended[f"model.{name}"])}
    assert changed == {"unet", "conditions", "vision"}


@pytest.mark.slow
def test_loss_falls(tmp_path: Path, model_folder: Path, tiny_animate: Tiny) -> None:
    run(tiny_animate(tmp_path, model_folder, steps=60), join("cpu"))
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_a_run_taken_up_equals_a_whole_one_bit_for_bit(
    tmp_path: Path, model_folder: Path, tiny_animate: Tiny, die_at: Die
) -> None:
    run(tiny_animate(tmp_path / "whole", model_folder, steps=14), join("cpu"))
    config = tiny_animate(tmp_path / "parts", model_folder, steps=14, milestone_steps=7)
    die_at(config, 10)
    run(config, join("cpu"))
    whole, parts = (
        (tmp_path / name / "checkpoints" / "step-00000014" / "state.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts


@pytest.mark.slow
def test_a_run_starts_from_a_model_of_its_own_sizes(
    tmp_path: Path, model_folder: Path, tiny_animate: Tiny
) -> None:
    run(tiny_animate(tmp_path, model_folder, steps=2), join("cpu"))
    config = dataclasses.replace(tiny_animate(tmp_path, model_folder), init_from=str(tmp_path / "export"))
    stage = DiffusionStage(config, join("cpu"))
    stored = load_file(tmp_path / "export" / "vision.safetensors")
    assert torch.equal(stage.model.vision.class_token, stored["class_token"].float())  # type: ignore[union-attr]
    other = dataclasses.replace(config, vision=dataclasses.replace(config.vision, layers=2))
    with pytest.raises(DataError, match="its image tower differs"):
        DiffusionStage(other, join("cpu"))
    with pytest.raises(DataError, match="its UNet differs"):
        DiffusionStage(dataclasses.replace(config, init_from=str(model_folder)), join("cpu"))


def test_a_clip_begins_with_its_still(tmp_path: Path, model_folder: Path, tiny_animate: Tiny) -> None:
    stage = DiffusionStage(tiny_animate(tmp_path, model_folder), join("cpu"))
    stage.prepare(0)
    batch, _ = stage._batch(6, False, torch.Generator().manual_seed(0))
    assert batch.still is not None and batch.fps is not None
    pictures = batch.still.permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = stage.task.vae.encode(pictures).mean * stage.task.vae.config.scale
    torch.testing.assert_close(batch.latents[:, :, 0], latents, rtol=2e-3, atol=2e-3)
    assert set(batch.fps.tolist()) <= {8.0, 16.0}


def test_words_are_dropped_and_two_thirds_of_the_time_the_picture_with_them(
    tmp_path: Path, model_folder: Path, tiny_animate: Tiny
) -> None:
    config = dataclasses.replace(tiny_animate(tmp_path, model_folder), condition_dropout=0.6)
    stage = DiffusionStage(config, join("cpu"))
    stage.prepare(0)
    batch, _ = stage._batch(500, False, torch.Generator().manual_seed(0))
    assert batch.shown is not None
    wordless = (batch.ids == stage.empty).all(dim=1)
    assert wordless.float().mean().item() == pytest.approx(0.6, abs=0.07)
    assert (~batch.shown).float().mean().item() == pytest.approx(0.4, abs=0.07)
    assert bool(wordless[~batch.shown].all())
    whole = stage._test_batch(slice(0, 4))
    assert whole.shown is not None and bool(whole.shown.all())


def test_a_clip_that_is_not_shown_its_still_keeps_the_latents(
    tmp_path: Path, model_folder: Path, tiny_animate: Tiny
) -> None:
    stage = DiffusionStage(tiny_animate(tmp_path, model_folder), join("cpu"))
    batch = stage._test_batch(slice(0, 4))
    hidden = dataclasses.replace(batch, shown=torch.zeros(4, dtype=torch.bool))
    one, other = stage.model.told(batch), stage.model.told(hidden)  # type: ignore[operator]
    assert torch.equal(one.concat, other.concat) and torch.equal(one.embedding, other.embedding)
    words = len(stage.empty[0])
    assert torch.equal(one.tokens[:, : words + 64], other.tokens[:, : words + 64])
    assert not torch.allclose(one.tokens[:, words + 64 :], other.tokens[:, words + 64 :])


def test_clips_begin_at_any_moment_and_end_where_scenes_do(
    tmp_path: Path, model_folder: Path, tiny_animate: Tiny
) -> None:
    config = dataclasses.replace(tiny_animate(tmp_path, model_folder), slow_share=0.4)
    task = AnimateTask(config, torch.device("cpu"))
    clips = sample_clips(800, 1)
    times, fps = task._moments(clips, 5)
    assert torch.equal(times, task._moments(clips, 5)[0])
    moving, slow = torch.from_numpy(clips.camera > 0), fps == 16
    span = times[:, -1] - times[:, 0]
    assert torch.allclose(span, torch.where(slow, 0.5, 1.0)) and torch.equal(
        fps[~slow], torch.full_like(fps[~slow], 8)
    )
    assert times[moving].max() <= 1 + 1e-6
    assert 1.3 < times[~moving].max() <= 1 + LATEST
    assert slow.float().mean().item() == pytest.approx(0.4, abs=0.06)
    assert (times[:, 0] > 0).float().mean().item() == pytest.approx(0.5 * (1 - 0.4 * 0.6), abs=0.06)


def test_chunks_are_functions_of_their_number(tmp_path: Path, model_folder: Path, tiny_animate: Tiny) -> None:
    stage = DiffusionStage(tiny_animate(tmp_path, model_folder), join("cpu"))
    drawn = draw(stage.scribe.drawing, 3)
    one, again, other = (stage.task.kept(drawn, seed, figures=True) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["latents"], other["latents"])


def test_the_image_tower_sees_what_it_will_be_shown_in_use() -> None:
    from kinescribe.media.crop import clip_pixels

    still = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    wanted = torch.stack(
        [torch.from_numpy(clip_pixels(row.numpy(), crop=(16, 16), side=16)) for row in still]
    )
    torch.testing.assert_close(vision_pixels(still), wanted)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("image_share=0.1", "image_share=0.1: a still is told whole"),
        ("cache.size=64", "vision.size=128 must be cache.size=64"),
        ("unet.in_channels=4", "unet.in_channels=4 must be 8"),
        ("late_share=2", "late_share=2.0 must lie in [0, 1]"),
        ("slow_share=-1", "slow_share=-1.0 must lie in [0, 1]"),
        ("conditions.tokens=3", "unknown key conditions.tokens"),
    ],
)
def test_a_faulty_setting_is_an_error_that_names_it(setting: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_config(RECIPES / "papercut_animate.toml", [setting])
    assert said in str(caught.value)
