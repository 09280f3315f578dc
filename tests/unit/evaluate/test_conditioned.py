import dataclasses

import numpy as np
import pytest
import torch

from kinescribe.components import Components
from kinescribe.diffusion.noise import Noise
from kinescribe.errors import OptionError
from kinescribe.evaluate.conditioned import Refiner, animated, refinement_of
from kinescribe.evaluate.generate import Making
from kinescribe.pipelines.image_to_video import ImageToVideoPipeline
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline

PROMPTS = ["a red cat", "a blue star spinning in space", "a green boat at sea"]
STILLS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
CLIPS = np.random.default_rng(1).integers(0, 256, (3, 4, 16, 16, 3)).astype(np.uint8)


def silent(_done: int) -> None:
    """Hear nothing."""


def far(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.filterwarnings("ignore::kinescribe.errors.KinescribeWarning")  # noise is no likeness of a still
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_stills_are_animated_as_by_the_pipeline(tiny_animator: Components, guidance: float) -> None:
    making = dataclasses.replace(Making.of(tiny_animator.spec, batch=2), guidance=guidance)
    ours = animated(tiny_animator, STILLS, PROMPTS, making, seed=9, tell=silent)
    pipeline = ImageToVideoPipeline(tiny_animator)
    for i, (still, prompt) in enumerate(zip(STILLS, PROMPTS, strict=True)):
        theirs = pipeline(still, prompt, seed=9 + i, guidance=guidance).frames
        assert far(ours[i], theirs) <= 1


def test_the_still_matters(tiny_animator: Components) -> None:
    making = Making.of(tiny_animator.spec, batch=3)
    one = animated(tiny_animator, STILLS, PROMPTS, making, seed=9, tell=silent)
    other = animated(tiny_animator, STILLS[::-1].copy(), PROMPTS, making, seed=9, tell=silent)
    assert far(one[0], other[0]) > 8


@pytest.mark.filterwarnings("ignore::kinescribe.errors.KinescribeWarning")
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_clips_are_refined_as_by_the_pipeline(tiny_refiner: Refiner, guidance: float) -> None:
    refiner = dataclasses.replace(
        tiny_refiner, making=dataclasses.replace(tiny_refiner.making, guidance=guidance)
    )
    from kinescribe.media.fit import fit_frames

    enlarged = np.stack([fit_frames(clip, 32, 32, "crop") for clip in CLIPS])
    ours = np.concatenate([refiner(enlarged[:2], PROMPTS[:2], 0), refiner(enlarged[2:], PROMPTS[2:], 2)])
    pipeline = VideoToVideoPipeline(refiner.components)
    for i, (clip, prompt) in enumerate(zip(CLIPS, PROMPTS, strict=True)):
        noise = Noise([refiner.seed + i], (4, 4, 4, 4)).initial()
        theirs = pipeline(clip, prompt, noise=noise, guidance=guidance, strength=refiner.strength).frames
        assert far(ours[i], theirs) <= 1


def test_a_model_of_another_kind_is_refused(tiny_components: Components) -> None:
    with pytest.raises(OptionError, match="refines no clips"):
        refinement_of(tiny_components)
    making = Making.of(tiny_components.spec, batch=1)
    with pytest.raises(OptionError, match="makes no clips from pictures"):
        animated(tiny_components, STILLS[:1], PROMPTS[:1], making, seed=0, tell=silent)


def test_refining_draws_the_same_noise_in_any_batch(tiny_refiner: Refiner) -> None:
    large = np.random.default_rng(2).integers(0, 256, (2, 4, 32, 32, 3)).astype(np.uint8)
    together = tiny_refiner(large, PROMPTS[:2], 0)
    assert far(together[1], tiny_refiner(large[1:], PROMPTS[1:2], 1)[0]) <= 1
    assert torch.get_default_dtype() == torch.float32
