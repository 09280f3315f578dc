"""What each preset does, and that a request carries one into its clip, its recipe and its plan."""

from typing import get_args

import numpy as np
import pytest

from conftest import tiny_components
from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.options import Preset
from kinescribe.perf.presets import EXACT, SPEEDS
from kinescribe.pipelines import planning
from kinescribe.pipelines.text_to_video import TextToVideoPipeline
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline


@pytest.fixture(scope="module")
def model() -> Components:
    return tiny_components()


def frames(model: Components, preset: Preset | None) -> np.ndarray:
    return TextToVideoPipeline(model)("a boat", seed=1, steps=6, preset=preset).frames


def test_every_preset_has_a_speed() -> None:
    assert set(SPEEDS) == {None, *get_args(Preset)}
    assert SPEEDS[None] is EXACT is SPEEDS["exact"]
    both, reuse, fast8 = SPEEDS["reuse+fast8"], SPEEDS["reuse"], SPEEDS["fast8"]
    assert both.reuse is reuse.reuse is not None and both.eight_bits and fast8.eight_bits
    assert fast8.reuse is None and not reuse.eight_bits


def test_a_call_with_a_preset_leaves_no_trace_in_the_next(
    model: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "require_eight_bits", lambda *_: None)
    exact = frames(model, None)
    others = [frames(model, preset) for preset in ("reuse", "fast8", "reuse+fast8")]
    assert all(not np.array_equal(other, exact) for other in others)
    assert all(np.abs(other.astype(int) - exact.astype(int)).mean() < 12 for other in others)
    assert np.array_equal(frames(model, "exact"), exact)


def test_the_recipe_tells_the_preset_and_makes_the_clip_again(model: Components) -> None:
    pipe = TextToVideoPipeline(model)
    clip = pipe("a boat", seed=1, preset="reuse")
    request = clip.recipe["request"]
    assert request["preset"] == "reuse"  # type: ignore[index]
    again = pipe(**request)  # type: ignore[arg-type]
    assert np.array_equal(again.frames, clip.frames)
    assert "preset" not in pipe("a boat", seed=1, preset="exact").recipe["request"]  # type: ignore[operator]


def test_eight_bits_are_refused_where_they_would_be_no_faster(model: Components) -> None:
    with pytest.raises(OptionError, match="preset=fast8 needs a GPU"):
        TextToVideoPipeline(model).stream("a boat", preset="fast8")


def test_a_clip_is_made_anew_in_windows_with_a_preset(model: Components) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), np.uint8)
    pipe = VideoToVideoPipeline(model)
    asked = {"seed": 1, "steps": 8, "strength": 1.0, "window": 3, "overlap": 1, "fps": 4.0}
    exact, near = (pipe(clip, "a boat", preset=preset, **asked).frames for preset in (None, "reuse"))
    assert near.shape == exact.shape and not np.array_equal(near, exact)
    assert np.abs(near.astype(int) - exact.astype(int)).mean() < 12
