"""The layout is found out by what lies there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goldens import folder
from kinescribe.checkpoints.convert import convert
from kinescribe.checkpoints.detect import describe, known_by_name, layout_of
from kinescribe.errors import KinescribeError, WeightsError

FIXTURE = folder("text_to_video")


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    convert(FIXTURE / "diffusers", tmp_path / "m")
    assert layout_of(tmp_path / "m") == "native"
    assert layout_of(FIXTURE / "diffusers") == "diffusers"
    assert layout_of(FIXTURE / "modelscope") == "modelscope"
    assert layout_of(FIXTURE / "modelscope" / "text2video_pytorch_model.pth") == "vgen"


def test_other_things_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file or folder"):
        layout_of(tmp_path / "x")
    with pytest.raises(WeightsError, match="no model folder itself, but diffusers in it is"):
        layout_of(FIXTURE)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(WeightsError, match="no weight file"):
        layout_of(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cache/models--damo-vilab--text-to-video-ms-1.7b/snapshots/0951", "modelscope-1.7b"),
        ("zeroscope_v2_576w", "zeroscope-v2-576w"),
        ("somewhere/zeroscope_v2_XL", "zeroscope-v2-xl"),
        ("iic/text-to-video-synthesis", "modelscope-1.7b"),
        ("papercut", None),
        ("mine", None),
    ],
)
def test_published_names_are_recognised_in_a_path(path: str, name: str | None) -> None:
    spec = known_by_name(Path("/data") / path)
    assert (spec.name if spec else None) == name


def leaves(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a JSON document, tables and lists included."""
    yield way
    if isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from leaves(value, (*way, key))


def spoilt(document: Any, way: tuple[Any, ...], value: object) -> Any:
    """The document with the value at ``way`` replaced."""
    if not way:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[way[0]] = spoilt(copy[way[0]], way[1:], value)
    return copy


NONSENSE: tuple[object, ...] = (
    None,
    "x",
    -1,
    0,
    [],
    {},
    10**12,
    1.5,
    True,
    "../x",
    [1] * 99,
    {"a": 1},
    1e400,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("modelscope", "configuration.json"),
        ("diffusers", "model_index.json"),
        ("diffusers", "unet/config.json"),
        ("diffusers", "vae/config.json"),
        ("diffusers", "text_encoder/config.json"),
        ("diffusers", "scheduler/scheduler_config.json"),
        ("native", "kinescribe.json"),
    ],
)
def test_nonsense_anywhere_in_a_configuration_is_one_line(
    tmp_path: Path, copy: Callable[..., Path], layout: str, name: str
) -> None:
    if layout == "native":
        convert(FIXTURE / "diffusers", tmp_path / "m")
    folder = tmp_path / "m" if layout == "native" else copy(layout)
    path = folder / name
    document = json.loads(path.read_text())
    ways = list(leaves(document))
    kinds = 1 if len(ways) > 30 else 2
    for number, way in enumerate(ways):
        # other nonsense for every value, in turn
        for value in (NONSENSE[(kinds * number + i) % len(NONSENSE)] for i in range(kinds)):
            path.write_text(json.dumps(spoilt(document, way, value)))
            try:
                source = describe(folder, variant=None, spec=None)
                source.tokenizer.load()
            except KinescribeError as error:
                assert "\n" not in str(error), (way, value)
