"""Windows of a long clip: every frame counts once, however it is cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kinescribe.diffusion.schedule import Level
from kinescribe.pipelines.denoise import Window, outcome, windowed, windows_of

LEVEL = Level(0.6, 0.8)


@given(st.integers(1, 150), st.integers(1, 40), st.data())
def test_windows_cover_every_frame_with_weights_that_add_up_to_one(
    frames: int, length: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, length // 2))
    windows = windows_of(frames, length, overlap)
    total = torch.zeros(frames, dtype=torch.float64)
    for window in windows:
        assert window.end - window.start == len(window.weights) == min(length, frames)
        assert min(window.weights) > 0
        total[window.start : window.end] += torch.tensor(window.weights, dtype=torch.float64)
    assert torch.allclose(total, torch.ones_like(total))
    shared = [first.end - second.start for first, second in zip(windows, windows[1:], strict=False)]
    assert all(count >= overlap for count in shared)


@given(st.integers(1, 40), st.integers(0, 20))
def test_a_clip_no_longer_than_a_window_is_one_window(length: int, more: int) -> None:
    assert windows_of(length, length + more, 0) == (Window(0, length, (1.0,) * length),)


def test_the_weight_of_one_window_falls_in_a_line_as_that_of_the_next_rises() -> None:
    first, second = windows_of(9, 6, 3)
    assert (first.start, second.start) == (0, 3)
    assert first.weights == pytest.approx((1, 1, 1, 0.75, 0.5, 0.25))
    assert second.weights == pytest.approx((0.25, 0.5, 0.75, 1, 1, 1))


def test_estimates_of_windows_are_joined_by_weight() -> None:
    calls: list[int] = []

    def estimate(x: Tensor, _: Level, __: float) -> Tensor:
        calls.append(x.shape[2])
        return torch.full_like(x, len(calls))

    joined = windowed(estimate, windows_of(9, 6, 3))(torch.zeros(1, 1, 9, 1, 1), LEVEL, 0.0)
    assert calls == [6, 6]
    assert joined.flatten().tolist() == pytest.approx([1, 1, 1, 1.25, 1.5, 1.75, 2, 2, 2])


@given(st.integers(1, 30), st.integers(2, 8))
def test_what_looks_at_no_other_frame_does_not_feel_the_windows(frames: int, length: int) -> None:
    x = torch.randn(2, 3, frames, 1, 2, generator=torch.Generator().manual_seed(frames))
    joined = windowed(lambda x, _, t: x.sin() * t, windows_of(frames, length, length // 2))(x, LEVEL, 3.0)
    assert torch.allclose(joined, x.sin() * 3, atol=1e-6)


def test_a_generation_that_ends_without_a_clip_is_no_silent_end() -> None:
    with pytest.raises(RuntimeError, match="without a video"):
        outcome(iter(()))
