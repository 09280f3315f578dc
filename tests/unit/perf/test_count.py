"""Counts on tensors without numbers are those of a real run, and those that one can work out by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conftest import tiny_components
from kinescribe.models.conditions import Conditioning
from kinescribe.ops.attention import QUERIES, attention
from kinescribe.ops.select import standing_for
from kinescribe.ops.slices import at_most, in_slices, sampled
from kinescribe.perf.count import Count, _products, counted

DEVICES = ("cpu", "meta")


def numbers(*shape: int, device: str) -> Tensor:
    return torch.ones(shape, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("work", "peak"),
    [
        (lambda x: x + x, 400),  # the result
        (lambda x: (x + 1) * 2, 800),  # the sum waits for its product
        (lambda x: x.add_(1).mul_(2), 0),  # in place
        (lambda x: x.view(10, 10).mT[2:], 0),  # views
        (lambda x: [x + 1, x + 2], 800),  # results are kept
        (lambda x: F.relu((x + 1)[:50]), 600),  # a view keeps all of what it looks at
        (lambda x: in_slices(lambda part: part * 2, x, 0, 25), 500),  # the whole and a slice
        (lambda x: in_slices(lambda part: part * 2, x, 0, 1000), 400),
    ],
)
def test_peaks_are_those_worked_out_by_hand(device: str, work: Callable[[Tensor], object], peak: int) -> None:
    x = numbers(100, device=device)
    assert counted(lambda: work(x)).peak == peak


@pytest.mark.parametrize("device", DEVICES)
def test_operations_and_bytes_are_those_worked_out_by_hand(device: str) -> None:
    x, weight = numbers(3, 5, device=device), numbers(7, 5, device=device)
    picture, kernel = numbers(1, 4, 6, 6, device=device), numbers(8, 4, 3, 3, device=device)
    q = numbers(2, 3, 10, 16, device=device)
    assert counted(lambda: F.linear(x, weight)) == Count(3 * 7 * 4, 2 * 3 * 5 * 7, 0)
    assert counted(lambda: x @ weight.mT).flops == 2 * 3 * 5 * 7
    assert counted(lambda: F.conv2d(picture, kernel, padding=1)).flops == 2 * 8 * 36 * 4 * 9
    assert counted(lambda: F.scaled_dot_product_attention(q, q, q)).flops == 2 * 2 * 2 * 3 * 10 * 10 * 16
    assert counted(lambda: x + x).moved == 3 * 15 * 4
    assert counted(lambda: x.mT).moved == 0
    assert counted(lambda: torch.empty_like(x).fill_(0)).moved > 0


def test_a_product_with_a_type_of_its_own_counts_as_any_other() -> None:
    x, y = numbers(2, 3, 5, device="meta"), numbers(2, 5, 4, device="meta")
    total, dtyped = x @ y, torch.ops.aten.baddbmm.dtype_out
    assert counted(lambda: torch.baddbmm(total, x, y)).flops == 2 * 2 * 3 * 4 * 5
    assert _products(dtyped, (total, x, y, torch.float32), [total]) == 2 * 2 * 3 * 4 * 5


def test_scores_of_a_wide_head_are_counted_where_a_gpu_makes_them() -> None:
    n, m = QUERIES + 52, 3000
    q, k = (torch.empty(2, count, 512, dtype=torch.float16, device="meta") for count in (n, m))
    assert counted(lambda: attention(q, k, k, 1)) == Count(q.nbytes, 2 * 2 * 2 * n * m * 512, 0)
    scores = 2 * QUERIES * m * 4
    with standing_for((9, 0)):
        assert (
            counted(lambda: attention(q, k, k, 1)).peak == 2 * scores
        )  # in float32, before and after the softmax
        assert counted(lambda: attention(q[:, :1], k, k, 1)).peak == 2 * scores // QUERIES


def test_work_follows_work() -> None:
    first, second = Count(5, 10, 100), Count(3, 1, 1)
    assert first + second == Count(5, 11, 101)
    assert first.times(3) == Count(5, 30, 300)


@pytest.mark.parametrize("rows", [1, 60, 1 << 16])
def test_a_networks_peak_is_the_same_with_numbers_and_without(rows: int) -> None:
    whole = tiny_components()
    assert whole.text is not None
    text, ids = whole.text, torch.zeros(2, 12, dtype=torch.long)
    layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.SiLU())

    def work() -> list[tuple[int, int]]:
        device = next(text.parameters()).device
        x, words = numbers(5, 4, 9, 9, device=str(device)), ids.to(device)
        with at_most(rows):
            counts = (
                counted(lambda: text(words)),
                counted(lambda: in_slices(layers, x, 0, rows // 81)),
            )
        return [(count.peak, count.flops) for count in counts]

    real = work()
    text.to("meta")
    layers.to("meta")
    assert work() == real
    assert min(min(count) for count in real) > 1000


def test_a_whole_unet_needs_no_more_with_numbers_than_without() -> None:
    unet = tiny_components().unet

    def count() -> Count:
        device = unet.head.weight.device
        x, tokens = numbers(1, 4, 5, 6, 8, device=str(device)), numbers(2, 7, 16, device=str(device))
        return counted(lambda: unet(x, numbers(1, device=str(device)), Conditioning(tokens=tokens)))

    real = count()
    unet.to("meta")
    meta = count()
    # a processor's norms keep the layout, where a GPU's make a copy; its attention over frames is two products
    assert 0.6 * meta.peak < real.peak < 1.1 * meta.peak
    assert real.flops == pytest.approx(meta.flops, rel=0.01)


def test_two_slices_stand_for_all() -> None:
    x, done = torch.ones(10, 4), []

    def work(part: Tensor) -> Tensor:
        done.append(len(part))
        return part * 2

    whole = counted(lambda: in_slices(work, x, 0, 2))
    assert done == [2] * 5
    with sampled():
        assert counted(lambda: in_slices(work, x, 0, 2)).peak == whole.peak
    assert done == [2] * 7
