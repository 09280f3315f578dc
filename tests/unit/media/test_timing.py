import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinescribe.media.timing import USUAL_FPS, Pace, even


def test_an_even_clip_keeps_its_frames_and_the_stated_rate() -> None:
    times = [2.5 + i / 30 for i in range(90)]
    assert even(times, 30.0) == Pace(list(range(90)), 30.0, "")


def test_times_rounded_to_milliseconds_are_even() -> None:
    times = [round(i * 1001 / 30000, 3) for i in range(600)]
    assert even(times, 30000 / 1001) == Pace(list(range(600)), 30000 / 1001, "")


def test_a_wrong_stated_rate_gives_way_to_the_times() -> None:
    order, fps, note = even([i / 24 for i in range(48)], 90_000.0)
    assert order == list(range(48)) and fps == pytest.approx(24) and note == ""
    assert even([i / 24 for i in range(48)], 8.0).fps == pytest.approx(24)


def test_uneven_frames_are_shown_when_the_file_shows_them() -> None:
    # three quick frames, then one that stays for the rest of a second
    order, fps, note = even([0.0, 0.1, 0.2, 1.2, 1.3], 10.0)
    assert fps == pytest.approx(4 / 1.3)
    moments = [(i + 0.5) / fps for i in range(5)]
    assert [int(moment >= 0.1) + int(moment >= 0.2) + int(moment >= 1.2) for moment in moments] == order[
        :4
    ] + [4 - 1]
    assert "3.077 a second" in note and "of 5 frames left out" in note and "\n" not in note


@pytest.mark.parametrize("times", [[None, None, None], [0.0, 0.2, 0.1], [0.0, 0.0, 0.0], [0.0, None, 1.0]])
def test_times_that_tell_nothing_leave_the_stated_rate(times: list[float | None]) -> None:
    assert even(times, 12.0) == Pace([0, 1, 2], 12.0, "")
    for stated in (None, 0.0, -3.0, float("nan"), 1e9):
        order, fps, note = even(times, stated)
        assert (order, fps) == ([0, 1, 2], USUAL_FPS) and "assumed" in note


def test_one_frame_has_the_stated_rate() -> None:
    assert even([3.0], 24.0) == Pace([0], 24.0, "")


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40), st.floats(0, 2000))
def test_any_times_give_as_many_frames_in_order_at_a_possible_rate(times: list[float], stated: float) -> None:
    order, fps, _ = even(times, stated)
    assert len(order) == len(times) and order == sorted(order) and set(order) <= set(range(len(times)))
    assert 0 < fps <= 1000
