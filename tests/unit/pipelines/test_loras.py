"""LoRAs on a loaded pipeline: what they change, what they leave, what the recipe says."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinescribe
import lora_files as files
from kinescribe.errors import KinescribeWarning, OptionError, WeightsError
from kinescribe.media.recipe import Recipe
from kinescribe.pipelines.text_to_video import TextToVideoPipeline

SMALL: dict[str, Any] = {"steps": 1, "frames": 2, "width": 32, "height": 32, "seed": 1, "guidance": 1.0}


@pytest.fixture(scope="module")
def loaded() -> TextToVideoPipeline:
    return kinescribe.load(files.base(), task="text-to-video", device="cpu", dtype="float32")


@pytest.fixture
def pipe(loaded: TextToVideoPipeline) -> Iterator[TextToVideoPipeline]:
    yield loaded
    loaded.unload_lora()


@pytest.fixture
def style(tmp_path: Path) -> Path:
    chosen = files.factors(lambda name: "attentions." in name or "self_attn" in name, size=0.3)
    return files.diffusers(tmp_path / "style.safetensors", chosen)


def clip(pipe: TextToVideoPipeline) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipe("a panda", **SMALL).frames


def test_a_lora_changes_the_clip_and_goes_without_a_trace(pipe: TextToVideoPipeline, style: Path) -> None:
    before, weights = clip(pipe), {n: t.clone() for n, t in pipe.components.unet.state_dict().items()}
    found = pipe.load_lora(style)
    assert found.matched == found.total
    assert not np.array_equal(clip(pipe), before)
    pipe.lora_scales({"style": 0.0})
    assert np.array_equal(clip(pipe), before)
    pipe.lora_scales({"style": 1.0})
    pipe.unload_lora("style")
    assert np.array_equal(clip(pipe), before)
    assert all(torch.equal(t, weights[n]) for n, t in pipe.components.unet.state_dict().items())


def test_half_twice_is_once(pipe: TextToVideoPipeline, style: Path) -> None:
    pipe.load_lora(style)
    once = {n: t.clone() for n, t in pipe.components.unet.state_dict().items()}
    pipe.unload_lora()
    pipe.load_lora(style, 0.5)
    pipe.load_lora(style, 0.5)
    assert list(pipe.components.adapters.scales) == ["style", "style-2"]
    torch.testing.assert_close(dict(pipe.components.unet.state_dict()), once)


def test_the_recipe_names_file_sum_and_scale(pipe: TextToVideoPipeline, style: Path) -> None:
    plain = Recipe.model_validate(pipe("a panda", **SMALL).recipe)
    assert plain.loras is None
    lora = pipe.load_lora(style, 0.5, "a name of mine")
    recipe = Recipe.model_validate(pipe("a panda", **SMALL).recipe)
    assert recipe.loras is not None
    (said,) = recipe.loras
    assert (said.name, said.sha256, said.scale) == ("style.safetensors", lora.adapter.sha256, 0.5)
    assert recipe.model_hash == plain.model_hash
    assert recipe.hash() != plain.hash()
    pipe.lora_scales({"a name of mine": 0.0})
    assert Recipe.model_validate(pipe("a panda", **SMALL).recipe).hash() == plain.hash()


def test_what_a_user_should_know_is_a_warning(pipe: TextToVideoPipeline, tmp_path: Path) -> None:
    path = files.kohya(tmp_path / "image.safetensors", files.factors(lambda name: ".attentions." in name))
    with pytest.warns(KinescribeWarning, match="image.safetensors: changes spatial layers alone"):
        pipe.load_lora(path)


def test_a_refused_lora_leaves_the_model_as_it_was(
    pipe: TextToVideoPipeline, style: Path, tmp_path: Path
) -> None:
    pipe.load_lora(style)
    before = {n: t.clone() for n, t in pipe.components.unet.state_dict().items()}
    with pytest.raises(WeightsError):
        pipe.load_lora(tmp_path / "absent.safetensors")
    with pytest.raises(OptionError, match="another LoRA has it"):
        pipe.load_lora(style, name="style")
    with pytest.raises(OptionError, match="finite"):
        pipe.load_lora(style, float("nan"))
    with pytest.raises(OptionError, match="no adapter is called 'x'"):
        pipe.unload_lora("x")
    assert all(torch.equal(t, before[n]) for n, t in pipe.components.unet.state_dict().items())
    assert list(pipe.components.adapters.scales) == ["style"]
