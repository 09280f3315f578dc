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
