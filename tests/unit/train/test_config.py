from pathlib import Path

import pytest

from kinescribe.catalog import CATALOG, DEFAULT_MODEL
from kinescribe.catalog.papercut import REFINE as CATALOG_ROW
from kinescribe.errors import DataError
from kinescribe.train.config import (
    AnimateTraining,
    DiffusionTraining,
    DistillTraining,
    RefineTraining,
    VAETraining,
    load_config,
)

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "recipes"
VAE, DIFFUSION = RECIPES / "papercut_vae.toml", RECIPES / "papercut.toml"
DECODER = RECIPES / "papercut_decoder.toml"
ANIMATE, REFINE = RECIPES / "papercut_animate.toml", RECIPES / "papercut_refine.toml"
REFINE_VAE = RECIPES / "papercut_refine_vae.toml"
DISTIL = RECIPES / "papercut_distil.toml"


def test_recipes_load() -> None:
    assert isinstance(load_config(VAE), VAETraining)
    assert isinstance(load_config(DIFFUSION), DiffusionTraining)
    assert isinstance(load_config(DECODER), VAETraining)
    assert isinstance(load_config(ANIMATE), AnimateTraining)
    assert isinstance(load_config(REFINE), RefineTraining)
    assert isinstance(load_config(REFINE_VAE), VAETraining)
    assert isinstance(load_config(DISTIL), DistillTraining)


def test_the_student_learns_what_the_embedded_model_does_by_default() -> None:
    distil, defaults = load_config(DISTIL), CATALOG[DEFAULT_MODEL].defaults
    assert isinstance(distil, DistillTraining)
    assert (ROOT / distil.teacher / "kinescribe.json").is_file()
    assert (distil.cache.size, distil.cache.frames) == (defaults.width, defaults.frames)
    assert (
        distil.cache.chunk % (distil.batch // 2) == 0
    )  # else one batch of the teacher has a shape of its own


def test_the_larger_autoencoder_starts_from_the_smaller_one_and_feeds_the_refining_recipe() -> None:
    small, large, refine = load_config(VAE), load_config(REFINE_VAE), load_config(REFINE)
    assert isinstance(small, VAETraining) and isinstance(large, VAETraining)
    assert isinstance(refine, RefineTraining)
    assert small.vae == large.vae and not large.frozen_encoder
    assert large.cache.size == refine.cache.size == 2 * small.cache.size
    assert refine.vae_from == f"{large.run.folder}/export"
    assert large.init_from == refine.model_from


def test_a_refining_recipe_starts_where_its_row_of_the_catalog_says() -> None:
    refine = load_config(REFINE)
    assert isinstance(refine, RefineTraining) and CATALOG_ROW.refinement is not None
    assert round(1000 * refine.strength) == CATALOG_ROW.refinement.noise_level + 1


def test_the_decoder_recipe_fits_the_autoencoder_of_the_other() -> None:
    decoder, vae = load_config(DECODER), load_config(VAE)
    assert isinstance(decoder, VAETraining) and isinstance(vae, VAETraining)
    assert decoder.frozen_encoder
    assert (decoder.vae, decoder.cache) == (vae.vae, vae.cache)


def test_a_frozen_encoder_without_a_trained_one_is_an_error() -> None:
    with pytest.raises(DataError, match="set init_from"):
        load_config(VAE, ["frozen_encoder=true"])


def test_settings_change_values_of_every_kind() -> None:
    settings = [
        "run.steps=20",
        "run.minutes=none",
        "run.folder=some/where",
        "unet.multipliers=[1, 2]",
        "noise.shift=3",
    ]
    config = load_config(DIFFUSION, settings)
    assert isinstance(config, DiffusionTraining)
    assert (config.run.steps, config.run.minutes, config.run.folder) == (20, None, "some/where")
    assert config.unet.multipliers == (1, 2)
    assert config.noise.shift == 3.0
    assert isinstance(config.noise.shift, float)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("run.stepz=3", "unknown key run.stepz"),
        ("unet.widht=3", "unknown key unet.widht"),
        ("colour=3", "unknown key colour"),
        ("run.steps=many", "run.steps must be int, not 'many'"),
        ("run.steps=1.5", "run.steps must be int, not 1.5"),
        ("run.compiled=1", "run.compiled must be bool, not 1"),
        ("batch=true", "batch must be int, not True"),
        ("noise.weighting=heavy", "noise.weighting must be one of 'uniform', 'min_snr', 'clean'"),
        ("unet.multipliers=2", "unet.multipliers must be a list"),
        ("unet.multipliers=[1, x]", "unet.multipliers must be a list"),
        ('unet.multipliers=[1, "x"]', "unet.multipliers[1] must be int"),
        ("optimizer.betas=[0.9]", "optimizer.betas must be a list of 2"),
        ("run=3", "run must be a table"),
        ("stage=judge", "stage='judge' is unknown: use one of vae, diffusion"),
        ("run.steps", "write it as name=value"),
        ("batch.size=3", "batch is a value, not a table"),
        ("run.minutes=none", "run.steps and run.minutes are both unset"),
        ("run.log_steps=0", "run.log_steps=0 must be positive"),
        ("cache.first_slots=99", "cache.first_slots=99"),
        ("image_share=1.5", "image_share=1.5"),
        ("noise.foreground=0.5", "noise.foreground=0.5 must be at least 1"),
        ("optimizer.ema_decay=1", "optimizer.ema_decay=1"),
    ],
)
def test_a_faulty_setting_is_an_error_that_names_it(setting: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_config(DIFFUSION, [setting])
    assert said in str(caught.value)


def test_a_missing_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    short = tmp_path / "short.toml"
    short.write_text(VAE.read_text().replace("latent_channels = 4\n", ""))
    with pytest.raises(DataError, match=r"missing key vae\.latent_channels"):
        load_config(short)


def test_broken_and_absent_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("stage = ")
    with pytest.raises(DataError, match="no valid TOML"):
        load_config(tmp_path / "broken.toml")
