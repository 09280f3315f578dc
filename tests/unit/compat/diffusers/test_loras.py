"""LoRAs under diffusers' names: which adapters act, and how strong, was read off diffusers 0.42 with PEFT 0.21."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kinescribe.compat.diffusers as door
import lora_files as files
from kinescribe.errors import OptionError, WeightsError

pytestmark = pytest.mark.filterwarnings("ignore")

A, B = "a.safetensors", "b.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate((A, B)):
        table = files.factors(lambda n: "mid_block" in n or "self_attn" in n, seed=seed, size=0.5)
        files.diffusers(path / name, table)
    return path


@pytest.fixture
def pipe() -> door.TextToVideoSDPipeline:
    pipe = door.DiffusionPipeline.from_pretrained(files.base())
    pipe.scheduler = door.DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def clip(pipe: Any, **options: Any) -> np.ndarray:
    call = {"num_inference_steps": 1, "height": 32, "width": 32, "num_frames": 2, "guidance_scale": 1.0}
    generator = torch.Generator().manual_seed(0)
    return pipe("a panda", generator=generator, output_type="latent", **call, **options).frames.numpy()


def scales(pipe: Any) -> dict[str, float]:
    return pipe._components.adapters.scales


def test_a_file_is_found_by_folder_and_name(pipe: Any, folder: Path) -> None:
    before = clip(pipe)
    pipe.load_lora_weights(folder, weight_name=A, adapter_name="a")
    assert not np.array_equal(clip(pipe), before)
    pipe.unload_lora_weights()
    assert np.array_equal(clip(pipe), before)
    pipe.load_lora_weights(str(folder.parent), subfolder=folder.name, weight_name=A)
    pipe.load_lora_weights(str(folder / B), local_files_only=True)
    assert list(scales(pipe)) == ["default_0", "default_1"]


def test_the_last_one_loaded_is_the_active_one(pipe: Any, folder: Path) -> None:
    pipe.load_lora_weights(folder / A, adapter_name="a")
    pipe.load_lora_weights(folder / B, adapter_name="b")
    assert pipe.get_active_adapters() == ["b"]
    assert scales(pipe) == {"a": 0.0, "b": 1.0}
    assert pipe.get_list_adapters() == {"unet": ["a", "b"], "text_encoder": ["a", "b"]}


def test_adapters_are_set_by_name_and_weight(pipe: Any, folder: Path) -> None:
    pipe.load_lora_weights(folder / A, adapter_name="a")
    pipe.load_lora_weights(folder / B, adapter_name="b")
    pipe.set_adapters(["a", "b"], adapter_weights=[0.5, 0.25])
    assert scales(pipe) == {"a": 0.5, "b": 0.25}
    pipe.set_adapters("a")
    assert scales(pipe) == {"a": 1.0, "b": 0.0}
    pipe.disable_lora()
    assert scales(pipe) == {"a": 0.0, "b": 0.0}
    pipe.enable_lora()
    assert scales(pipe) == {"a": 1.0, "b": 0.0}
    pipe.delete_adapters("a")
    assert scales(pipe) == {"b": 0.0}


def test_the_scale_of_a_call_is_for_that_call(pipe: Any, folder: Path) -> None:
    before = clip(pipe)
    pipe.load_lora_weights(folder / A)
    full = clip(pipe)
    assert np.array_equal(clip(pipe, cross_attention_kwargs={"scale": 0.0}), before)
    half = clip(pipe, cross_attention_kwargs={"scale": 0.5})
    assert np.array_equal(clip(pipe), full)
    pipe.set_adapters("default_0", 0.5)
    assert np.array_equal(clip(pipe), half)


def test_fused_adapters_no_longer_hear_the_scale(pipe: Any, folder: Path) -> None:
    before = clip(pipe)
    pipe.load_lora_weights(folder / A, adapter_name="a")
    pipe.set_adapters("a", 0.5)
    half = clip(pipe)
    pipe.set_adapters("a")
    pipe.fuse_lora(lora_scale=0.5)
    assert np.array_equal(clip(pipe, cross_attention_kwargs={"scale": 0.0}), half)
    pipe.unfuse_lora()
    assert np.array_equal(clip(pipe), half)  # the scale of fusing stays, as it does there
    assert np.array_equal(clip(pipe, cross_attention_kwargs={"scale": 0.0}), before)


def test_fused_and_unloaded_it_is_the_model(pipe: Any, folder: Path) -> None:
    pipe.load_lora_weights(folder / A, adapter_name="a")
    alone = clip(pipe)
    pipe.fuse_lora(adapter_names=["a"], safe_fusing=True)
    pipe.load_lora_weights(folder / B, adapter_name="b")
    both = clip(pipe)
    pipe.unload_lora_weights()
    assert np.array_equal(clip(pipe), alone)
    assert not np.array_equal(both, alone)
    assert pipe.get_list_adapters() == {}


def test_what_cannot_be_done_is_said(pipe: Any, folder: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        pipe.load_lora_weights("someone/lora")
    with pytest.raises(OptionError, match="a file or folder"):
        pipe.load_lora_weights({"a": torch.ones(1)})
    with pytest.raises(OptionError, match="no option 'strength'"):
        pipe.load_lora_weights(folder / A, strength=1)
    with pytest.raises(ValueError, match="no adapter is called 'x'"):
        pipe.set_adapters("x")
    pipe.load_lora_weights(folder / A, adapter_name="a")
    with pytest.raises(ValueError, match="2 adapter_weights for 1 adapters"):
        pipe.set_adapters(["a"], [1.0, 2.0])
    with pytest.raises(OptionError, match="the same for all its networks"):
        pipe.set_adapters(["a"], [{"unet": 1.0}])
    with pytest.raises(OptionError, match="changes the text_encoder too"):
        pipe.fuse_lora(components=["unet"])
    with pytest.raises(OptionError, match="scale"):
        clip(pipe, cross_attention_kwargs={"scale": "much"})
