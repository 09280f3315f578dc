"""Folders we write are folders that the other libraries read."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from goldens import folder
from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.load import load_components
from kinescribe.checkpoints.modelscope import CONFIGURATION
from kinescribe.components import Components
from kinescribe.models.text import TextConfig

Copy = Callable[..., Path]
FIXTURE = folder("text_to_video")


def configuration(folder: Path) -> dict[str, object]:
    return json.loads((folder / CONFIGURATION).read_text())["model"]  # type: ignore[no-any-return]


def test_modelscopes_configuration_comes_back(tmp_path: Path) -> None:
    convert(FIXTURE / "modelscope", tmp_path / "m", "modelscope")
    before, after = configuration(FIXTURE / "modelscope"), configuration(tmp_path / "m")
    assert before["model_cfg"] == after["model_cfg"]
    assert before["model_args"] == after["model_args"]
    assert before["type"] == after["type"]


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "scheduler"])
def test_diffusers_configurations_come_back(tmp_path: Path, name: str) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "d", "diffusers")
    file = "scheduler_config.json" if name == "scheduler" else "config.json"
    before = json.loads((FIXTURE / "diffusers" / name / file).read_text())
    after = json.loads((tmp_path / "d" / name / file).read_text())
    ignored = {"_diffusers_version", "sample_size"}
    shared = (set(before) & set(after)) - ignored
    assert {key: before[key] for key in shared} == {key: after[key] for key in shared}
    assert set(after) <= set(before)


def test_a_spacing_that_is_open_is_not_written(tmp_path: Path) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "d", "diffusers")
    table = json.loads((tmp_path / "d" / "scheduler" / "scheduler_config.json").read_text())
    assert "timestep_spacing" not in table


def test_tokenizer_files_come_back(tmp_path: Path) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "d", "diffusers")
    for name in ("vocab.json", "merges.txt"):
        before = (FIXTURE / "diffusers" / "tokenizer" / name).read_text()
        after = (tmp_path / "d" / "tokenizer" / name).read_text()
        assert (
            (json.loads(before) == json.loads(after))
            if name.endswith("json")
            else (before.split() == after.split())
        )


@pytest.mark.parametrize("to", ["diffusers", "modelscope", "native"])
def test_the_benchmarks_random_folder_loads(tmp_path: Path, to: str, components: Components) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "make_random_folder.py"
    spec = importlib.util.spec_from_file_location("make_random_folder", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unet = replace(components.unet.config, stem_heads=8, context_dim=8, width=32, groups=32)
    vae = replace(components.vae.config, width=32, groups=32)
    text = TextConfig(vocabulary=49408, width=8, layers=1, heads=2, mlp_width=16, context_length=77)
    folder = module.make_random_folder(
        tmp_path / "m", to=to, configs={"unet": unet, "vae": vae, "text": text}, dtype=torch.float16
    )
    loaded = load_components(folder)
    assert loaded.dtype == torch.float16
    assert all(bool(p.any()) for p in loaded.unet.parameters())
