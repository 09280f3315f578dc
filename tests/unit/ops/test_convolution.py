import pytest
import torch
from torch import nn

from interpreted import needs_triton, run
from kinescribe.ops import convolution
from kinescribe.ops.convolution import add, convolve
from kinescribe.ops.group_norm import GroupNorm

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
