import pytest
import torch
from torch import nn

from interpreted import needs_triton, run
from kinescribe.ops import convolution
from kinescribe.ops.convolution import add, convolve, lay_channels_last
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.temporal import TemporalConv

SCRIPT = """
import torch
from kinescribe.ops.convolution_triton import add_biased

torch.manual_seed(0)
for shape in [(2, 10, 3, 5), (1, 320, 4, 4), (3, 64, 37, 1)]:
    x, y, bias = torch.randn(shape), torch.randn(shape), torch.randn(1, shape[1])
    out = add_biased(x, y.contiguous(memory_format=torch.channels_last), bias)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert (out - (x.double() + y + bias[:, :, None, None])).abs().max() < 1e-6
"""


def test_on_a_processor_no_bias_waits() -> None:
    conv, x = nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 5, 3)
    out, waiting = convolve(x, conv)
    assert waiting is None
    assert torch.equal(out, conv(x))


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, (3, 1), padding=(1, 0))])
def test_a_bias_that_waited_is_added_by_what_comes_next(
    conv: nn.Conv2d, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, norm = conv.double(), GroupNorm(2, 6, eps=1e-5, silu=True).double()
    x, stream = torch.randn(2, 4, 5, 3).double(), torch.randn(2, 6, 5, 3).double()
    monkeypatch.setattr(
        convolution, "kernels_serve", lambda *parts: len(parts) == 3 and parts[1] is conv.weight
    )
    out, waiting = convolve(x, conv)
    assert waiting is not None and not torch.allclose(out, conv(x))
    torch.testing.assert_close(add(stream, out, waiting), stream + conv(x))
    torch.testing.assert_close(norm(out, waiting), norm(conv(x)))


@needs_triton
def test_the_kernel_equals_the_reference() -> None:
    run(SCRIPT)


def test_kernels_are_laid_out_as_clips_are_and_stay_what_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(3, 3), TemporalConv(5))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lay_channels_last(network)
    assert isinstance(network[0], nn.Conv2d) and isinstance(network[2], nn.Conv2d)
    for layer in (network[0], network[2]):
        assert layer.weight.stride()[1] == 1
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
