"""Kernels as operations: torch's own where gradients or a compiler may want them, the plain function elsewhere."""

import pytest
import torch
from torch import Tensor

from kinescribe.ops.operation import operation


@operation("doubled_for_a_test")
def doubled(x: Tensor, times: int) -> Tensor:
    """``x`` doubled so many times."""
    return x * 2**times


def test_without_gradients_the_function_is_called_as_it_is() -> None:
    with torch.no_grad():
        assert torch.equal(doubled(torch.ones(2), 3), torch.full((2,), 8.0))


def test_tensors_without_numbers_are_answered_without_a_device() -> None:
    @operation("halved_for_a_test")
    def halved(x: Tensor) -> Tensor:  # noqa: ARG001
        raise AssertionError("there are no numbers to halve")

    @halved.faked
    def _(x: Tensor) -> Tensor:
        return x.new_empty(x.shape)

    assert halved(torch.empty(3, device="meta")).shape == (3,)


def test_with_gradients_it_is_an_operation_of_torch_for_gpus_alone() -> None:
    assert str(doubled.known._opoverload) == "kinescribe.doubled_for_a_test.default"
    with torch.enable_grad(), pytest.raises(NotImplementedError, match="CPU"):
        doubled(torch.ones(2), 3)
