import pytest
import torch
from torch import Tensor

from interpreted import compiled, needs_triton
from kinescribe.ops import upsample
from kinescribe.ops.upsample import UpsampleConv, phases, upsample_conv_by_phase, upsample_conv_reference


def parts(n: int, c: int, o: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(n + c + h)
    shapes = ((n, c, h, w), (o, c, 3, 3), (o,))
    x, weight, bias = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    return x, weight, bias


def filled(weight: Tensor, bias: Tensor) -> UpsampleConv:
    module = UpsampleConv(len(weight)).to(weight.dtype).requires_grad_(False)
    module.load_state_dict({"weight": weight, "bias": bias})
    return module


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 5), (4, 3), (8, 8)])
@pytest.mark.parametrize(("c", "o"), [(3, 3), (4, 6), (5, 2)])
def test_by_phase_it_is_the_plain_enlargement_and_convolution(c: int, o: int, h: int, w: int) -> None:
    x, weight, bias = parts(2, c, o, h, w)
    wanted = upsample_conv_reference(x, weight, bias)
    assert wanted.shape == (2, o, 2 * h, 2 * w)
    torch.testing.assert_close(upsample_conv_by_phase(x, phases(weight), bias), wanted)


def test_the_result_lies_channels_last() -> None:
    x, weight, bias = parts(2, 4, 6, 4, 4)
    out = upsample_conv_by_phase(x.contiguous(memory_format=torch.channels_last), phases(weight), bias)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_the_module_is_the_convolution_and_enlarges_first_if_asked() -> None:
    x, weight, bias = parts(2, 4, 4, 3, 5)
    module = filled(weight, bias)
    torch.testing.assert_close(module(x), torch.nn.functional.conv2d(x, weight, bias, padding=1))
    torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, weight, bias))


@torch.inference_mode()
def test_kept_phases_follow_the_weight_in_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    monkeypatch.setattr(upsample, "phases_pay", lambda *_: True)
    monkeypatch.setattr(upsample, "phases", lambda weight: made.append(phases(weight)) or made[-1])
    x, weight, bias = parts(2, 4, 4, 3, 5)
    with torch.inference_mode(False):
        module = filled(weight, bias)
    module.keep()
    for _ in range(2):
        module.keep()
        torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, weight, bias))
    assert len(made) == 1
    kept = made[0]
    module.weight.copy_(2 * weight)
    module.keep()
    torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, 2 * weight, bias))
    assert len(made) == 2
    torch.testing.assert_close(kept, phases(2 * weight))
    module.weight.copy_(weight)  # and nobody keeps them: what is kept is of another weight
    torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, weight, bias))
    assert len(made) == 3
    module.release()
    module.enlarged(x)
    assert len(made) == 4


def test_kept_phases_leave_with_the_weight() -> None:
    _, weight, bias = parts(2, 4, 4, 3, 5)
    module = filled(weight, bias)
    assert module.kept_at == ()
    module.keep()
    assert all(module.kept_at)
    assert module.kept() is not None
    module.weight.data.mul_(1)  # outside of inference, too
    with torch.no_grad():
        module.weight.mul_(2)
        module.keep()
    module.to(torch.float32)
    assert module.kept_at == ()


def test_kernels_are_summed_before_they_are_rounded() -> None:
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1:, 1:] = torch.tensor([[1.0, 2**-9], [2**-9, 2**-9]])
    summed = phases(weight.bfloat16())[0, 0]
    assert summed.dtype == torch.bfloat16
    assert float(summed[1, 1]) == float(torch.tensor(1 + 3 * 2**-9).bfloat16()) != 1.0


@pytest.mark.slow
@needs_triton
def test_the_kernel_compiles_for_the_generations_that_it_is_chosen_for() -> None:
    compiled("""
from kinescribe.ops import upsample_triton as kernels

for biased in (False, True):
    build(kernels._place, BIASED=biased, PIXELS=kernels.PIXELS, CHANNELS=kernels.CHANNELS)
""")
