import numpy as np
import pytest

from kinescribe.world.clip import (
    CAMERAS,
    COLOURS,
    HELD_OUT_SHARE,
    MOTIONS,
    SCENES,
    SIZES,
    SUBJECTS,
    TIMES,
    Clip,
    Clips,
    Sprite,
    is_held_out,
    sample_clips,
)

# Published weights were trained without these; they are never to change.
HELD_OUT_COUNT = 2131
FIRST_HELD_OUT = [4, 11, 17, 22, 23, 24, 29, 33, 36, 55, 56]


def combinations() -> tuple[np.ndarray, ...]:
    sizes = [len(t) for t in (SUBJECTS, COLOURS, SCENES, MOTIONS)]
    return tuple(axis.ravel() for axis in np.indices(sizes))


def test_the_tables_have_the_promised_lengths() -> None:
    lengths = [len(t) for t in (SUBJECTS, COLOURS, SCENES, TIMES, MOTIONS, SIZES, CAMERAS)]
    assert lengths == [16, 10, 8, 3, 11, 3, 5]


def test_about_fifteen_in_a_hundred_combinations_are_held_out() -> None:
    assert is_held_out(*combinations()).mean() == pytest.approx(HELD_OUT_SHARE, abs=0.005)


def test_every_attribute_keeps_most_of_its_combinations_for_training() -> None:
    subject, colour, scene, motion = combinations()
    held = is_held_out(subject, colour, scene, motion)
    for column in (subject, colour, scene, motion):
        shares = np.bincount(column, weights=held) / np.bincount(column)
        assert shares.max() < 0.19
        assert shares.min() > 0.11


def test_the_hold_out_never_changes() -> None:
    held = is_held_out(*combinations())
    assert int(held.sum()) == HELD_OUT_COUNT
    assert [i for i in range(60) if held[i]] == FIRST_HELD_OUT
    assert is_held_out(0, 0, FIRST_HELD_OUT[0] // 11, FIRST_HELD_OUT[0] % 11) is True


def test_training_samples_hold_nothing_held_out() -> None:
    clips = sample_clips(20_000, 1)
    paired = clips.second_subject >= 0
    assert not is_held_out(clips.subject, clips.colour, clips.scene, clips.motion).any()
    second = is_held_out(clips.second_subject, clips.second_colour, clips.scene, clips.motion)
    assert not second[paired].any()


def test_held_out_samples_hold_nothing_else() -> None:
    clips = sample_clips(2_000, 1, held_out=True)
    assert is_held_out(clips.subject, clips.colour, clips.scene, clips.motion).all()


def test_unrestricted_samples_hold_both() -> None:
    clips = sample_clips(20_000, 1, held_out=None)
    share = is_held_out(clips.subject, clips.colour, clips.scene, clips.motion).mean()
    assert share == pytest.approx(HELD_OUT_SHARE, abs=0.01)


@pytest.mark.parametrize(
    ("name", "table"),
    [("subject", SUBJECTS), ("colour", COLOURS), ("scene", SCENES), ("time", TIMES), ("motion", MOTIONS)],
)
def test_attributes_are_about_uniform(name: str, table: tuple[str, ...]) -> None:
    counts = np.bincount(sample_clips(60_000, 2).labels()[name], minlength=len(table))
    assert np.abs(counts * len(table) / 60_000 - 1).max() < 0.12


def test_the_camera_rests_in_sixty_of_a_hundred() -> None:
    assert (sample_clips(20_000, 3).camera == 0).mean() == pytest.approx(0.6, abs=0.02)


def test_the_share_of_pairs_is_kept_and_both_differ() -> None:
    clips = sample_clips(20_000, 4, pairs=0.3)
    paired = clips.second_subject >= 0
    assert paired.mean() == pytest.approx(0.3, abs=0.02)
    assert (clips.second_subject != clips.subject).all()
    assert (clips.second_colour != clips.colour).all()
    assert ((clips.second_colour >= 0) == paired).all()


def test_samples_follow_from_the_seed() -> None:
    first, again, other = sample_clips(500, 7), sample_clips(500, 7), sample_clips(500, 8)
    assert all((first.labels()[k] == again.labels()[k]).all() for k in first.labels())
    assert (first.seed != other.seed).any()


def test_clips_and_single_clips_are_one_another() -> None:
    clips = sample_clips(50, 5, pairs=0.5)
    again = Clips.of(clips[i] for i in range(len(clips)))
    assert all((clips.labels()[k] == again.labels()[k]).all() for k in clips.labels())


def test_a_single_clip_names_its_second_subject() -> None:
    clip = Clip(1, 2, 3, 0, 4, 1, 0, Sprite(5, 6), 9)
    assert Clips.of([clip])[0] == clip
    assert Clips.of([clip])[0:1].second_subject.tolist() == [5]


def test_a_mask_picks_clips() -> None:
    clips = sample_clips(100, 6)
    night = clips[clips.time == 2]
    assert len(night) == int((clips.time == 2).sum())
    assert (night.time == 2).all()
