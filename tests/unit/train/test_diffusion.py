import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.native import describe_native
from kinescribe.errors import DataError
from kinescribe.models.text import TextEncoder
from kinescribe.models.unet import UNet
from kinescribe.models.vae import AutoencoderKL
from kinescribe.train.config import DiffusionTraining, VAETraining, load_config
from kinescribe.train.data import world_tokenizer
from kinescribe.train.diffusion import Batch, Denoising, DiffusionStage, still_step
from kinescribe.train.ranks import join
from kinescribe.train.report import read_log
from kinescribe.train.runs import run

RECIPES = Path(__file__).parents[3] / "recipes"
Tiny = Callable[..., DiffusionTraining]
BYTES_IN_ALL = 18_000_000
BYTES_PER_FILE = 16 * 2**20


def real_model() -> tuple[Denoising, AutoencoderKL]:
    config, vae = load_config(RECIPES / "papercut.toml"), load_config(RECIPES / "papercut_vae.toml").vae
    words = world_tokenizer(config.text.context_length).vocabulary
    text = dataclasses.replace(config.text, vocabulary=words)
    return Denoising(UNet(config.unet), TextEncoder(text)), AutoencoderKL(vae)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_recipes_fit_their_budget_in_fp16() -> None:
    model, vae = real_model()
    assert 2 * (count(model) + count(vae)) <= BYTES_IN_ALL
    assert 2 * count(model.unet) <= BYTES_PER_FILE
    assert count(vae) <= 1_800_000


def test_the_real_sizes_take_an_optimizer_step() -> None:
    model, _ = real_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batch = Batch(latents=torch.randn(1, 4, 2, 16, 16), ids=torch.zeros(1, 48, dtype=torch.int64))
    before = model.unet.head.weight.clone()
    loss = (model(batch.latents, torch.tensor([500]), batch) - batch.latents).square().mean()
    loss.backward()
    optimizer.step()
    assert not torch.equal(model.unet.head.weight, before)


def test_loss_falls_on_a_small_world(tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny) -> None:
    run(tiny_diffusion(tmp_path, vae_folder, steps=60), join("cpu"))
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "train"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_a_killed_run_taken_up_equals_a_whole_one_bit_for_bit(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny, die_at: Callable[..., None]
) -> None:
    run(tiny_diffusion(tmp_path / "whole", vae_folder, steps=20), join("cpu"))
    config = tiny_diffusion(tmp_path / "parts", vae_folder, steps=20, milestone_steps=10)
    die_at(config, 13)
    run(config, join("cpu"))
    whole, parts = (
        (tmp_path / name / "checkpoints" / "step-00000020" / "state.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts


def test_the_export_is_a_whole_model_and_a_run_can_start_from_it(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny
) -> None:
    config = tiny_diffusion(tmp_path / "first", vae_folder, steps=5)
    run(config, join("cpu"))
    export = tmp_path / "first" / "export"
    assert describe_native(export).unet.config == config.unet
    later = dataclasses.replace(config, init_from=str(export), vae_from=str(export))
    stage = DiffusionStage(later, join("cpu"))
    saved = [line for line in read_log(tmp_path / "first" / "log.jsonl") if line["kind"] == "validation"][-1]
    assert stage.validate(stage.model)["loss"].item() == pytest.approx(saved["loss"], rel=0.02)


def test_starting_from_other_sizes_is_an_error_that_names_them(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny
) -> None:
    config = tiny_diffusion(tmp_path, vae_folder, steps=5)
    run(config, join("cpu"))
    other = dataclasses.replace(
        config, unet=dataclasses.replace(config.unet, groups=8), init_from=str(tmp_path / "export")
    )
    with pytest.raises(DataError, match="its UNet differs"):
        DiffusionStage(other, join("cpu"))


def test_an_absent_autoencoder_is_an_error(tmp_path: Path, tiny_diffusion: Tiny) -> None:
    with pytest.raises(DataError, match="no usable autoencoder"):
        DiffusionStage(tiny_diffusion(tmp_path, tmp_path / "nowhere"), join("cpu"))


def weighing(config: DiffusionTraining, foreground: float) -> DiffusionTraining:
    return dataclasses.replace(config, noise=dataclasses.replace(config.noise, foreground=foreground))


def test_figures_are_drawn_with_their_clips_and_stills(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny
) -> None:
    stage = DiffusionStage(weighing(tiny_diffusion(tmp_path, vae_folder), 4.0), join("cpu"))
    stage.prepare(0)
    rows = len(stage.ring)
    # Each row gets a latent that tells its number and frame, and a mask that tells the same.
    number = torch.arange(rows)[:, None] * 2 + torch.arange(2)
    stage.ring["latents"][:rows] = number[..., None, None, None].half()
    stage.ring["figures"][:rows] = number[..., None, None].to(torch.uint8)
    for stills in (False, True):
        batch, figures = stage._batch(50, stills, torch.Generator().manual_seed(0))
        assert figures is not None
        assert torch.equal(batch.latents[:, 0], figures.float())


def test_without_a_foreground_weight_no_masks_are_kept(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny
) -> None:
    stage = DiffusionStage(weighing(tiny_diffusion(tmp_path, vae_folder), 1.0), join("cpu"))
    stage.prepare(0)
    _, figures = stage._batch(4, False, torch.Generator().manual_seed(0))
    assert figures is None
    with pytest.raises(KeyError):
        stage.ring["figures"]


def test_validation_tells_the_plain_error_and_that_of_figures(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny
) -> None:
    stage = DiffusionStage(weighing(tiny_diffusion(tmp_path, vae_folder), 1.0), join("cpu"))
    whole = stage.validate(stage.model)
    stage.test["figures"].fill_(255)
    everywhere = stage.validate(stage.model)
    assert whole["loss"] == everywhere["loss"]
    assert whole["figure"] != whole["loss"]
    torch.testing.assert_close(everywhere["figure"], everywhere["loss"])


@pytest.mark.slow
def test_a_new_decoder_leaves_a_trained_model_and_its_latents_as_they_were(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny, tiny_vae: Callable[..., VAETraining]
) -> None:
    run(tiny_diffusion(tmp_path / "model", vae_folder, steps=2), join("cpu"))
    old, new = tmp_path / "model" / "export", tmp_path / "decoder" / "export"
    config = tiny_vae(tmp_path / "decoder", steps=4)
    run(dataclasses.replace(config, init_from=str(old), frozen_encoder=True), join("cpu"))
    for part in ("unet", "text"):
        name = f"{part}.safetensors"
        assert (old / name).read_bytes() == (new / name).read_bytes()
    assert (old / "vae.safetensors").read_bytes() != (new / "vae.safetensors").read_bytes()
    before, after = (load_components(folder, device=torch.device("cpu")) for folder in (old, new))
    assert before.vae.config == after.vae.config
    pictures = torch.rand(2, 3, 16, 16).to(before.vae.unquantise.weight.dtype) * 2 - 1
    assert torch.equal(before.vae.encode(pictures).mean, after.vae.encode(pictures).mean)


def test_stills_come_in_their_share_of_steps() -> None:
    steps = [still_step(step, 0.125) for step in range(800)]
    assert sum(steps) == 100
    assert not any(still_step(step, 0.0) for step in range(100))


def test_a_share_of_captions_is_dropped_and_stills_have_one_frame(
    tmp_path: Path, vae_folder: Path, tiny_diffusion: Tiny
) -> None:
    config = dataclasses.replace(tiny_diffusion(tmp_path, vae_folder), condition_dropout=0.5)
    stage = DiffusionStage(config, join("cpu"))
    stage.prepare(0)
    generator = torch.Generator().manual_seed(0)
    (clips, _), (stills, _) = (stage._batch(400, still, generator) for still in (False, True))
    wordless = (clips.ids == stage.empty).all(dim=1).float().mean()
    assert wordless.item() == pytest.approx(0.5, abs=0.08)
    assert clips.latents.shape == (400, 4, 2, 2, 2)
    assert stills.latents.shape == (400, 4, 1, 2, 2)
