"""The table of models: consistent, complete, and readable without torch."""

import subprocess
import sys

import pytest

from kinescribe.catalog import CATALOG, DEFAULT_MODEL, find_spec, model_spec
from kinescribe.errors import OptionError
from kinescribe.options import SAMPLER_NAMES


def test_the_catalog_needs_no_torch() -> None:
    code = "import sys, kinescribe.catalog; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_model_is_the_first_and_the_only_embedded_one() -> None:
    assert next(iter(CATALOG)) == DEFAULT_MODEL
    assert [name for name, spec in CATALOG.items() if spec.embedded] == [DEFAULT_MODEL]


@pytest.mark.parametrize("name", CATALOG)
def test_every_row_is_consistent(name: str) -> None:
    spec = CATALOG[name]
    defaults = spec.defaults
    assert spec.name == name
    assert defaults.width % spec.grid == defaults.height % spec.grid == 0
    assert defaults.frames <= spec.trained_frames
    assert defaults.sampler in SAMPLER_NAMES
    assert spec.licence
    assert spec.title
    assert "http" not in spec.licence
    assert spec.embedded == (spec.noise == "own")
    assert spec.hub_ids == tuple(f"{s.hub}:{s.id}" for s in spec.sources)
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
