"""The speeds of this machine are plausible numbers, measured once."""

import torch

from kinescribe.perf.speed import speeds


def test_speeds_are_plausible_and_measured_once() -> None:
    cpu = torch.device("cpu")
    found = speeds(cpu, torch.float32)
    assert 1e8 < found.matrix < 1e15 and 1e8 < found.copy < 1e14 and found.link is None
    assert speeds(cpu, torch.float32) is found
