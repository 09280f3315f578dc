"""A folder tells what it is for, and is not taken for something else."""

import pytest
import torch

import kinescribe
from goldens import folder
from kinescribe.errors import OptionError
from kinescribe.perf.outline import loaded
from kinescribe.pipelines import device
from kinescribe.pipelines import load as loading
from kinescribe.pipelines.device import dtype_of_towers, pick_dtype
from kinescribe.pipelines.planning import outline_named

FAMILY = "image_and_video_to_video"
TEXT = "text_to_video/diffusers"


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        (TEXT, kinescribe.TextToVideoPipeline),
        (f"{FAMILY}/i2v", kinescribe.ImageToVideoPipeline),
        (f"{FAMILY}/i2vgen-xl", kinescribe.ImageToVideoPipeline),
        (f"{FAMILY}/v2v", kinescribe.VideoToVideoPipeline),
    ],
)
def test_a_folder_gives_the_pipeline_of_its_kind(name: str, pipeline: type) -> None:
    assert type(kinescribe.load(folder(name), device="cpu")) is pipeline


def test_text_to_video_weights_can_make_clips_anew_if_asked() -> None:
    pipe = kinescribe.load(folder(TEXT), task="video-to-video", device="cpu")
    assert type(pipe) is kinescribe.VideoToVideoPipeline
    assert (
        type(kinescribe.load(folder(f"{FAMILY}/v2v"), task="video-to-video"))
        is kinescribe.VideoToVideoPipeline
    )


@pytest.mark.parametrize("name", [TEXT, f"{FAMILY}/i2v", f"{FAMILY}/i2vgen-xl"])
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_where_a_processor_has_bfloat16_only_towers_stay_in_float32_and_only_unasked(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: str
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: True)
    components = kinescribe.load(folder(name), device="cpu", dtype=dtype).components
    assert components.vae.quantise.weight.dtype == components.dtype == torch.bfloat16
    tower = components.text or components.vision
    assert tower is not None
    assert next(tower.parameters()).dtype == (torch.float32 if dtype == "auto" else torch.bfloat16)
    cpu = torch.device("cpu")
    formats = pick_dtype(dtype, cpu), dtype_of_towers(dtype, cpu)
    assert loaded(components) == outline_named(str(folder(name)), *formats)


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        (TEXT, "image-to-video", r"makes clips from text \(text-to-video\), and image-to-video was asked"),
        (
            f"{FAMILY}/i2v",
            "text-to-video",
            r"i2v makes clips from a picture \(image-to-video\), and text-to-video",
        ),
        (f"{FAMILY}/i2vgen-xl", "video-to-video", r"i2vgen-xl makes clips from a picture"),
        (f"{FAMILY}/v2v", "text-to-video", r"v2v makes clips anew from clips \(video-to-video\)"),
        (f"{FAMILY}/v2v", "image-to-video", r"v2v makes clips anew from clips"),
    ],
)
def test_another_task_is_refused_before_anything_is_read(
    name: str, task: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "load_components", never)
    with pytest.raises(OptionError, match=said) as caught:
        kinescribe.load(folder(name), task=task, device="cpu")
    assert caught.value.exit_code == 2


def test_a_name_of_the_table_is_refused_though_it_is_not_here() -> None:
    with pytest.raises(OptionError, match="i2vgen-xl makes clips from a picture"):
        kinescribe.load("i2vgen-xl", task="text-to-video", device="cpu")


def test_a_task_that_there_is_not_lists_those_there_are() -> None:
    with pytest.raises(OptionError, match="task='upscale': use one of text-to-video, image-to-video, video"):
        kinescribe.load(folder(TEXT), task="upscale")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (None, "papercut-quick"),
        ("text-to-video", "papercut-quick"),
        ("image-to-video", "papercut-animate"),
        ("video-to-video", "papercut-refine"),
    ],
)
def test_without_a_model_the_embedded_one_for_the_task_is_loaded(task: str | None, name: str) -> None:
    assert kinescribe.load(task=task, device="cpu").spec.name == name
