import pytest
import torch

from kinescribe.errors import DataError
from kinescribe.train.ranks import join


def test_a_process_alone_agrees_with_itself() -> None:
    ranks = join("cpu")
    model = torch.nn.Linear(1, 1)
    assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
    assert ranks.from_first(1.5, 0.0) == [1.5, 0.0]
    assert ranks.stack(torch.arange(3)).shape == (1, 3)
    assert ranks.mean(torch.ones(2)).tolist() == [1, 1]
    assert ranks.wrap(model) is model


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_device_is_an_error() -> None:
    with pytest.raises(DataError, match=r"run\.device=cpu"):
        join("cuda")


@pytest.mark.parametrize(("visible", "local", "index"), [(1, 3, 0), (4, 3, 3), (2, 3, 1)])
def test_a_process_takes_a_device_that_it_sees(
    monkeypatch: pytest.MonkeyPatch, visible: int, local: int, index: int
) -> None:
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", str(local))
    ranks = join("auto")
    assert ranks.device == torch.device("cuda", index)
    assert taken == [ranks.device]
