import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinescribe.train.config import (
    AnimateTraining,
    DiffusionTraining,
    DistillTraining,
    RefineTraining,
    VAETraining,
    build,
)
from kinescribe.train.diffusion import DiffusionStage
from kinescribe.train.distill import DistillStage
from kinescribe.train.ranks import join
from kinescribe.train.runs import run

RECIPES = Path(__file__).parents[3] / "recipes"
TINY_CACHE = {
    "chunk": 16,
    "slots": 2,
    "first_slots": 1,
    "renew_steps": 6,
    "size": 16,
    "frames": 2,
    "workers": 0,
}
TINY_UNET = {
    "width": 16,
    "multipliers": [1],
    "attention_levels": [True],
    "head_dim": 8,
    "context_dim": 16,
    "groups": 4,
}
TINY_TEXT = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16}
TINY_CONDITIONS = {"width": 16, "image_width": 8, "context_dim": 16}
TINY_VISION = {
    "width": 8,
    "layers": 1,
    "heads": 2,
    "mlp_width": 8,
    "patch": 8,
    "size": 16,
    "embedding_width": 8,
}
TINY_VAE = {"width": 8, "groups": 4, "multipliers": [1, 1, 1, 1]}


def recipe(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """A real recipe with everything made tiny; the same words, a few thousand parameters."""
    table = tomllib.loads((RECIPES / name).read_text())
    table["run"] = {"folder": str(folder), "seed": 3, "steps": steps, "log_steps": 5, "device": "cpu"}
    table["cache"] = dict(TINY_CACHE)
    table["optimizer"]["warmup_steps"] = 2
    table["batch"] = 4
    return table


def make_vae(folder: Path, steps: int = 10, **changes: Any) -> VAETraining:
    table = recipe("papercut_vae.toml", folder, steps)
    table["vae"] |= TINY_VAE
    table["run"] |= changes
    return build(VAETraining, table)


def make_diffusion(folder: Path, vae: Path, steps: int = 10, **changes: Any) -> DiffusionTraining:
    table = recipe("papercut.toml", folder, steps)
    table["unet"] |= TINY_UNET
    table["text"] |= TINY_TEXT
    table |= {
        "vae_from": str(vae),
        "image_batch": 6,
        "image_share": 0.25,
        "validation_clips": 4,
        "sheet_steps": 2,
    }
    table["sheet_prompts"] = table["sheet_prompts"][:2]
    table["run"] |= changes
    return build(DiffusionTraining, table)


def make_animate(folder: Path, model: Path, steps: int = 10, **changes: Any) -> AnimateTraining:
    table = recipe("papercut_animate.toml", folder, steps)
    table["unet"] |= TINY_UNET
    table["conditions"] |= TINY_CONDITIONS
    table["vision"] |= TINY_VISION
    table |= {"model_from": str(model), "validation_clips": 4, "sheet_steps": 2}
    table["run"] |= changes
    return build(AnimateTraining, table)


def make_refine(folder: Path, model: Path, vae: Path, steps: int = 10, **changes: Any) -> RefineTraining:
    table = recipe("papercut_refine.toml", folder, steps)
    table["unet"] |= TINY_UNET
    table |= {"model_from": str(model), "vae_from": str(vae), "validation_clips": 4, "sheet_steps": 2}
    table["run"] |= changes
    return build(RefineTraining, table)


def make_distill(
    folder: Path, teacher: Path, steps: int = 10, *, optimizer: dict[str, float] | None = None, **changes: Any
) -> DistillTraining:
    table = recipe("papercut_distil.toml", folder, steps)
    table |= {"teacher": str(teacher), "validation_clips": 4, "steps": 2, "teacher_steps": 4, "batch": 16}
    table["sheet_prompts"] = table["sheet_prompts"][:2]
    table["optimizer"] |= optimizer or {}
    table["run"] |= changes
    return build(DistillTraining, table)


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a tiny trained autoencoder."""
    folder = tmp_path_factory.mktemp("vae")
    run(make_vae(folder, steps=5), join("cpu"))
    return folder / "export"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, vae_folder: Path) -> Path:
    """The export of a tiny text-to-video model."""
    folder = tmp_path_factory.mktemp("model")
    run(make_diffusion(folder, vae_folder, steps=2), join("cpu"))
    return folder / "export"


@pytest.fixture
def tiny_vae() -> Callable[..., VAETraining]:
    """`tiny_vae(folder, steps=10, **run)`: the autoencoder recipe made tiny."""
    return make_vae


@pytest.fixture
def tiny_diffusion() -> Callable[..., DiffusionTraining]:
    """`tiny_diffusion(folder, vae_folder, steps=10, **run)`: the diffusion recipe made tiny."""
    return make_diffusion


@pytest.fixture
def tiny_animate() -> Callable[..., AnimateTraining]:
    """`tiny_animate(folder, model_folder, steps=10, **run)`: the animating recipe made tiny."""
    return make_animate


@pytest.fixture
def tiny_refine() -> Callable[..., RefineTraining]:
    """`tiny_refine(folder, model_folder, vae_folder, steps=10, **run)`: the refining recipe made tiny."""
    return make_refine


@pytest.fixture(scope="session")
def tiny_distill() -> Callable[..., DistillTraining]:
    """`tiny_distill(folder, model_folder, steps=10, **run)`: two steps out of four, `optimizer` to change that."""
    return make_distill


@pytest.fixture
def tiny_settings() -> Callable[[Path], list[str]]:
    """`--set` values that make any recipe tiny: the tables named, and those that all of them have."""

    def settings(folder: Path, *tables: str) -> list[str]:
        sizes: dict[str, dict[str, Any]] = {"unet": TINY_UNET, "text": TINY_TEXT, "vae": TINY_VAE}
        sizes |= {"cache": TINY_CACHE, "conditions": TINY_CONDITIONS, "vision": TINY_VISION}
        run = [
            f"run.folder={folder}",
            "run.minutes=none",
            "run.steps=4",
            "run.log_steps=2",
            "run.compiled=false",
        ]
        parts = [(table, name, value) for table in ("cache", *tables) for name, value in sizes[table].items()]
        changes = [f"{table}.{name}={json.dumps(value)}" for table, name, value in parts]
        return [*run, "run.device=cpu", "batch=2", *changes]

    return settings


@pytest.fixture
def die_at() -> Callable[..., None]:
    """`die_at(config, step)`: run a stage on clips until `step` and die there; nothing more is written."""

    def run_and_die(config: Any, step: int) -> None:
        stage = DistillStage if isinstance(config, DistillTraining) else DiffusionStage
        prepare = stage.prepare

        def die(self: Any, now: int) -> None:
            if now == step:
                raise ZeroDivisionError
            prepare(self, now)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(stage, "prepare", die)
            run(config, join("cpu"))

    return run_and_die
