"""Devices and dtypes: auto picks what is there, a wrong name says what is."""

import pytest
import torch

from kinescribe.errors import OptionError
from kinescribe.pipelines.device import available_devices, pick_device, pick_dtype


def test_auto_is_the_best_device_here() -> None:
    assert pick_device("auto").type == available_devices()[0]


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "gpu", ""])
def test_an_absent_device_names_those_present(name: str) -> None:
    with pytest.raises(OptionError, match=r"cpu|CUDA devices"):
        pick_device(name)


def test_dtype_follows_the_device() -> None:
    assert pick_dtype("auto", torch.device("cuda")) == torch.float16
    assert pick_dtype("auto", torch.device("mps")) == torch.float32
    assert pick_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    assert pick_dtype(torch.float64, torch.device("cpu")) == torch.float64


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_a_dtype_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="dtype"):
        pick_dtype(name, torch.device("cpu"))
