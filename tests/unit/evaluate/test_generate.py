import copy
import dataclasses

import numpy as np
import pytest
import torch

from kinescribe.components import Components
from kinescribe.evaluate.generate import Making, generate
from kinescribe.options import Preset
from kinescribe.pipelines.text_to_video import TextToVideoPipeline

PROMPTS = ["a red cat", "a blue star spinning in space", "a green boat at sea"]


def silent(_done: int) -> None:
    """Hear nothing."""


def test_defaults_are_the_models(tiny_components: Components) -> None:
    making = Making.of(tiny_components.spec, batch=7)
    assert (making.steps, making.sampler, making.frames, making.batch) == (2, "dpmpp_2m", 4, 7)


def test_the_batch_changes_no_clip(tiny_components: Components) -> None:
    making = Making.of(tiny_components.spec, batch=3)
    together = generate(tiny_components, PROMPTS, making, seed=5, tell=silent)
    apart = generate(tiny_components, PROMPTS, dataclasses.replace(making, batch=2), seed=5, tell=silent)
    assert together.shape == (3, 4, 32, 32, 3)
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_clips_are_those_of_the_pipeline(tiny_components: Components, guidance: float) -> None:
    making = dataclasses.replace(Making.of(tiny_components.spec, batch=4), guidance=guidance)
    ours = generate(tiny_components, PROMPTS, making, seed=9, tell=silent)
    videos = TextToVideoPipeline(tiny_components)(PROMPTS, seed=9, guidance=guidance)
    theirs = np.stack([video.frames for video in videos])
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_progress_is_told_after_each_batch(tiny_components: Components) -> None:
    told: list[int] = []
    generate(tiny_components, PROMPTS, Making.of(tiny_components.spec, batch=2), seed=1, tell=told.append)
    assert told == [2, 3]


@pytest.mark.parametrize("preset", ["reuse", "fast8"])
def test_a_preset_makes_other_clips_on_any_device_and_leaves_no_trace(
    tiny_components: Components, preset: Preset
) -> None:
    components = copy.deepcopy(tiny_components)
    for parameter in components.unet.parameters():  # a fresh model's branches answer nothing
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    making = dataclasses.replace(Making.of(components.spec, batch=1), steps=6)
    other = dataclasses.replace(making, preset=preset)
    exact, near, again = (
        generate(components, PROMPTS[:1], each, seed=5, tell=silent) for each in (making, other, making)
    )
    assert near.shape == exact.shape and not np.array_equal(near, exact)
    assert np.array_equal(again, exact)
