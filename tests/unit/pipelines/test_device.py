"""Devices and dtypes: auto picks what is there, a wrong name says what is."""

import pytest
import torch

from kinescribe.errors import KinescribeWarning, OptionError
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


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(OptionError, match="dtype='int8'"):
        pick_dtype("int8", torch.device("cpu"))


def test_float16_on_a_processor_becomes_what_it_is_quick_in_and_that_is_said() -> None:
    cpu = torch.device("cpu")
    with pytest.warns(
        KinescribeWarning, match="float16 is very slow on a CPU: computing in (bfloat16|float32)"
    ):
        assert pick_dtype("float16", cpu) == pick_dtype("auto", cpu)
