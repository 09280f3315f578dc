"""Devices and dtypes: auto picks what is there, a wrong name says what is."""

import pytest
import torch

from kinescribe.errors import KinescribeWarning, OptionError
from kinescribe.pipelines import device
from kinescribe.pipelines.device import available_devices, pick_device, pick_dtype, spare_threads


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


@pytest.mark.parametrize(("now", "allowed", "then"), [(8, 2, 2), (2, 8, 2), (4, 4, 4)])
def test_threads_are_no_more_than_the_processors_granted(
    monkeypatch: pytest.MonkeyPatch, now: int, allowed: int, then: int
) -> None:
    threads = [now]
    monkeypatch.setattr(device, "cores", lambda: allowed)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    spare_threads()
    assert threads[-1] == then
