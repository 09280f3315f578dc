"""Fast operations on a GPU against a float64 reference on the CPU."""

import pytest
import torch

from kinescribe.ops.attention import frame_attention, frame_attention_reference
from kinescribe.ops.group_norm import group_norm, group_norm_by_channel, group_norm_reference
from kinescribe.ops.select import frame_attention_version

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def relative(mine: torch.Tensor, reference: torch.Tensor) -> float:
    return float((mine.double().cpu() - reference).norm() / reference.norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("frames", "heads", "d"), [(16, 3, 32), (24, 2, 64), (5, 1, 16), (64, 1, 128)])
def test_frame_attention_kernel_and_its_gradients(
    dtype: torch.dtype, frames: int, heads: int, d: int
) -> None:
    tensors = [torch.randn(2, frames, 40, heads * d, device="cuda", dtype=dtype) for _ in range(4)]
    grad, mine = tensors[3], [x.clone().requires_grad_() for x in tensors[:3]]
    exact = [x.double().cpu().requires_grad_() for x in tensors[:3]]
    out, expected = frame_attention(*mine, heads), frame_attention_reference(*exact, heads)
    out.backward(grad)
    expected.backward(grad.double().cpu())
    bound = 1e-3 if dtype == torch.float16 else 8e-3
    assert relative(out.detach(), expected.detach()) < bound
    for x, reference in zip(mine, exact, strict=True):
        assert x.grad is not None and reference.grad is not None
        assert relative(x.grad, reference.grad) < bound


def test_kernel_is_chosen_for_half_precision_alone() -> None:
    half = torch.randn(1, 16, 4, 64, device="cuda", dtype=torch.float16)
    assert frame_attention_version(half, 2) == "kernel"
    assert frame_attention_version(half.float(), 2) == "fused"


@pytest.mark.parametrize("version", [group_norm, group_norm_by_channel])
def test_group_norm_stays_channels_last(version: object) -> None:
    x = torch.randn(3, 64, 16, 20, device="cuda").contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(64, device="cuda"), torch.randn(64, device="cuda")
    out = version(x, 32, weight, bias, 1e-5, silu=True)  # type: ignore[operator]
    exact = (y.double().cpu() for y in (x, weight, bias))
    first, *rest = exact
    expected = group_norm_reference(first, 32, *rest, 1e-5, silu=True)
    assert relative(out, expected) < 1e-6
    assert out.is_contiguous(memory_format=torch.channels_last)
