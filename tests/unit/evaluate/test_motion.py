import numpy as np

from kinescribe.evaluate.motion import movement, summary


def test_a_resting_clip_does_not_change() -> None:
    clips = np.full((1, 5, 4, 4, 3), 90, dtype=np.uint8)
    assert movement(clips)["change"].tolist() == [0.0]


def test_an_even_fade_is_smooth_and_a_flicker_is_not() -> None:
    levels = np.array([[0, 20, 40, 60, 80], [0, 20, 0, 20, 0]], dtype=np.uint8)
    clips = np.broadcast_to(levels[:, :, None, None, None], (2, 5, 4, 4, 3))
    figures = movement(np.ascontiguousarray(clips))
    assert figures["change"].tolist() == [20.0, 20.0]
    assert figures["jerk"].tolist() == [0.0, 2.0]
    assert figures["jump"].tolist() == [1.0, 1.0]


def test_summary_is_means_over_clips() -> None:
    figures = {"change": np.array([1.0, 3.0]), "jerk": np.array([1.0, 2.0]), "jump": np.array([1.0, 1.0])}
    assert summary(figures) == {"change": 2.0, "jerk": 1.5, "jump": 1.0, "change_deviation": 1.0}
