import time
from collections.abc import Iterator

import pytest
import torch

from kinescribe.perf.measure import Marks, Times, forget_peak, peak_bytes, repeated, timed, walked

CPU = torch.device("cpu")
PAUSE = 0.02


def slow_items(count: int) -> Iterator[int]:
    for item in range(count):
        time.sleep(PAUSE)
        yield item


def test_one_slow_run_does_not_move_the_median() -> None:
    times = Times((1.0, 9.0, 1.1))
    assert times.median == 1.1


def test_a_work_is_timed_and_its_result_handed_on() -> None:
    seconds, result = timed(lambda: (time.sleep(PAUSE), 7)[1], CPU)
    assert seconds >= PAUSE and result == 7


def test_warm_up_runs_do_not_count() -> None:
    pauses = iter([0.3, 0.0, 0.0])
    times = repeated(lambda: time.sleep(next(pauses)), CPU, runs=2)
    assert len(times.seconds) == 2 and max(times.seconds) < 0.3


def test_every_item_of_a_generator_has_its_time() -> None:
    walk = walked(slow_items(3), CPU)
    assert walk.last == 2 and len(walk.intervals) == 3
    assert min(walk.intervals) >= PAUSE and walk.seconds == pytest.approx(sum(walk.intervals))


def test_what_follows_the_last_item_is_not_lost() -> None:
    def with_an_end() -> Iterator[int]:
        yield 1
        time.sleep(PAUSE)
        yield 2

    assert walked(with_an_end(), CPU).intervals[-1] >= PAUSE


def test_a_generator_without_items_is_an_error() -> None:
    with pytest.raises(ValueError, match="no item"):
        walked(iter(()), CPU)


def test_marks_give_one_interval_less_than_there_are() -> None:
    marks = Marks(CPU)
    assert marks.intervals() == ()
    for _ in range(3):
        marks.mark()
    assert len(marks.intervals()) == 2


def test_the_peak_of_a_processor_holds_what_was_in_use() -> None:
    forget_peak(CPU)
    before = peak_bytes(CPU)
    held = torch.ones(2**24)
    assert peak_bytes(CPU) >= before > 0 and held.sum() > 0
