import io

import numpy as np
import pytest
from PIL import Image

from kinescribe.media.measures import STILL, UNLIKE, motion, similarity
from kinescribe.world.clip import CAMERAS, MOTIONS, sample_clips
from kinescribe.world.render import render


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return render(sample_clips(12, 5), size=64).numpy()


def copies(picture: np.ndarray) -> list[np.ndarray]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=40)
    large = Image.fromarray(picture).resize((200, 200), Image.Resampling.LANCZOS)
    grain = picture + np.random.default_rng(0).normal(0, 10, picture.shape)
    return [
        np.asarray(Image.open(file)), np.asarray(large), (picture * 0.8).astype(np.uint8),
        grain.clip(0, 255).astype(np.uint8),
    ]  # fmt: skip


def test_a_picture_is_similar_to_itself_and_its_copies(clips: np.ndarray) -> None:
    for clip in clips:
        assert similarity(clip[0], clip[0]) == pytest.approx(1)
        assert all(similarity(clip[0], copy) > 0.9 for copy in copies(clip[0]))


def test_most_other_pictures_are_not_similar(clips: np.ndarray) -> None:
    others = [similarity(one[0], other[0]) for one, other in zip(clips, clips[1:], strict=False)]
    assert np.mean(np.array(others) < UNLIKE) > 0.7 and all(0 <= value < 0.9 for value in others)


def test_a_negative_and_a_flat_frame_are_not_similar(clips: np.ndarray) -> None:
    for clip in clips:
        assert similarity(clip[0], 255 - clip[0]) < 0.1
        assert similarity(clip[0], np.zeros_like(clip[0])) < 0.1
    flat = np.full((40, 60, 3), 90, np.uint8)
    assert similarity(flat, flat) == pytest.approx(1)
    assert similarity(flat, np.full((40, 60, 3), 200, np.uint8)) < 0.9


def test_a_picture_is_cropped_to_the_shape_of_the_frame() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    assert similarity(wide, wide[:, 40:120]) > 0.99 > UNLIKE > similarity(wide, wide[:, :80])


def test_nothing_moves_in_a_still_even_with_grain(ball: np.ndarray) -> None:
    still = np.repeat(ball[:1], 8, 0).repeat(4, 1).repeat(4, 2)
    assert motion(still) == 0 == motion(ball[:1])
    grain = np.random.default_rng(0).normal(0, 3, still.shape)
    assert 0 < motion((still + grain).clip(0, 255).astype(np.uint8)) < STILL


def test_slow_and_quick_movement_are_both_seen(ball: np.ndarray) -> None:
    assert motion(ball) > STILL
    slow = np.stack([np.roll(ball[0], shift, 1) for shift in range(8)])
    assert motion(slow) > STILL and motion(ball[::-1]) == pytest.approx(motion(ball))


def test_the_threshold_parts_clips_where_something_moves_from_the_others() -> None:
    drawn = sample_clips(150, 3)
    still = (drawn.motion == MOTIONS.index("still")) & (drawn.camera == CAMERAS.index("still"))
    scores = np.array([motion(clip) for clip in render(drawn, size=64).numpy()])
    assert still.sum() > 4 and scores[still].max() < STILL < scores[~still].min()


def test_a_change_of_all_pixels_is_counted_in_levels() -> None:
    clip = np.zeros((2, 8, 8, 3), np.uint8)
    clip[1] = 100
    assert motion(clip) == pytest.approx(50)
