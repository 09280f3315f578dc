"""The table of models: consistent, complete, and readable without torch."""

import subprocess
import sys

import pytest

from kinescribe.catalog import CATALOG, DEFAULT_MODEL, find_spec, model_spec
from kinescribe.errors import OptionError
from kinescribe.models.tokenizer import Tokenizer
from kinescribe.options import SAMPLER_NAMES


def test_the_catalog_needs_no_torch() -> None:
    code = "import sys, kinescribe.catalog; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_model_is_the_first_and_of_each_kind_the_first_is_embedded() -> None:
    assert next(iter(CATALOG)) == DEFAULT_MODEL
    firsts = {spec.kind: spec.name for spec in reversed(CATALOG.values())}
    assert [name for name, spec in CATALOG.items() if spec.embedded] == [
        firsts["text-to-video"], "papercut", firsts["image-to-video"], firsts["video-to-video"]
    ]  # fmt: skip


@pytest.mark.parametrize("name", CATALOG)
def test_every_row_is_consistent(name: str) -> None:
    spec = CATALOG[name]
    defaults = spec.defaults
    assert spec.name == name
    assert defaults.width % spec.grid == (defaults.height - spec.row_remainder) % spec.grid == 0
    assert defaults.frames <= spec.trained_frames
    assert defaults.sampler in SAMPLER_NAMES
    assert spec.licence
    assert spec.title
    assert "http" not in spec.licence
    assert spec.embedded == (spec.noise == "own")
    assert all(name.startswith(("huggingface:", "modelscope:")) for name in spec.hub_ids)
    assert spec.bytes is None or spec.bytes > 1e9


def test_names_are_unique_however_they_are_written() -> None:
    names = [name for spec in CATALOG.values() for name in {spec.name, *(s.id for s in spec.sources)}]
    assert len({name.lower().replace("_", "-") for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cerspense/zeroscope_v2_576w", "zeroscope-v2-576w"),
        ("zeroscope_v2_XL", "zeroscope-v2-xl"),
        ("damo-vilab/text-to-video-ms-1.7b", "modelscope-1.7b"),
        ("damo/text-to-video-synthesis", "modelscope-1.7b"),
        ("Papercut", "papercut"),
    ],
)
def test_models_are_found_by_every_published_name(name: str, wanted: str) -> None:
    assert model_spec(name).name == wanted


def test_an_unknown_name_lists_the_nearest() -> None:
    assert find_spec("modelscope") is None
    with pytest.raises(OptionError, match="unknown model 'potato': use potat1"):
        model_spec("potato")
    with pytest.raises(OptionError, match="papercut, modelscope-1.7b"):
        model_spec("qqqq")


@pytest.mark.parametrize("name", CATALOG)
def test_a_row_has_the_facts_of_its_kind_and_no_others(name: str) -> None:
    spec = CATALOG[name]
    assert (spec.picture is not None) == (spec.kind == "image-to-video")
    assert (spec.refinement is not None) == (spec.kind == "video-to-video")
    if spec.refinement is not None:
        assert spec.refinement.slow_sampler in (None, *SAMPLER_NAMES)
        assert (spec.refinement.slow_sampler is None) == (spec.refinement.slow_steps is None)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("damo/Image-to-Video", "modelscope-image-to-video"),
        ("ali-vilab/MS-Image2Video", "modelscope-image-to-video"),
        ("damo-vilab/MS-Image2Video", "modelscope-image-to-video"),
        ("Video-to-Video", "modelscope-video-to-video"),
        ("ali-vilab/MS-Vid2Vid-XL", "modelscope-video-to-video"),
        ("damo/I2VGen-XL", "i2vgen-xl"),
        ("ali-vilab/i2vgen-xl", "i2vgen-xl"),
    ],
)
def test_image_and_second_stage_models_are_found_by_every_published_name(name: str, wanted: str) -> None:
    assert model_spec(name).name == wanted


def test_what_is_added_to_prompts_has_the_published_number_of_tokens() -> None:
    count = Tokenizer.clip().encode
    stage, sr600 = CATALOG["modelscope-video-to-video"], CATALOG["vgen-sr600"]
    assert stage.refinement is not None and sr600.refinement is not None
    assert len(count(stage.refinement.positive_prompt)) == 64
    assert len(count(stage.defaults.negative_prompt)) == 54
    assert len(count(sr600.refinement.positive_prompt)) == 78
    assert sr600.defaults.negative_prompt == stage.defaults.negative_prompt
    assert len(count(CATALOG["i2vgen-xl"].defaults.negative_prompt)) == 30


def test_published_runs_are_in_the_rows() -> None:
    stage, sr600, xl, first = (
        CATALOG[name]
        for name in ("modelscope-video-to-video", "vgen-sr600", "i2vgen-xl", "modelscope-image-to-video")
    )
    assert stage.refinement is not None and sr600.refinement is not None
    assert (stage.refinement.noise_level, stage.refinement.guidance_rescale) == (599, 0.2)
    assert (sr600.refinement.noise_level, sr600.refinement.guidance_rescale) == (699, 0.3)
    assert xl.picture is not None and first.picture is not None
    assert (first.picture.offset_noise, xl.picture.offset_noise) == (0.1, 0.0)
    assert (first.picture.condition_fps, xl.picture.condition_fps) == (8, 16)
