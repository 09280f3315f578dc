import pytest
import torch
from torch import Tensor

from kinescribe.ops.upsample import phases, upsample_conv, upsample_conv_by_phase, upsample_conv_reference


def parts(n: int, c: int, o: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(n + c + h)
    shapes = ((n, c, h, w), (o, c, 3, 3), (o,))
    x, weight, bias = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 5), (4, 3), (8, 8)])
@pytest.mark.parametrize(("c", "o"), [(3, 3), (4, 6), (5, 2)])
def test_by_phase_it_is_the_plain_enlargement_and_convolution(c: int, o: int, h: int, w: int) -> None:
    given = parts(2, c, o, h, w)
    wanted = upsample_conv_reference(*given)
    assert wanted.shape == (2, o, 2 * h, 2 * w)
    torch.testing.assert_close(upsample_conv_by_phase(*given), wanted)
    torch.testing.assert_close(upsample_conv(*given), wanted)


def test_the_result_lies_channels_last() -> None:
    x, weight, bias = parts(2, 4, 6, 4, 4)
    out = upsample_conv_by_phase(x.contiguous(memory_format=torch.channels_last), weight, bias)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_kernels_are_summed_before_they_are_rounded() -> None:
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1:, 1:] = torch.tensor([[1.0, 2**-9], [2**-9, 2**-9]])
    summed = phases(weight.bfloat16())[0, 0]
    assert summed.dtype == torch.bfloat16
    assert float(summed[1, 1]) == float(torch.tensor(1 + 3 * 2**-9).bfloat16()) != 1.0
