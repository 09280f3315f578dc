"""The attention kernel, run by Triton's interpreter on the CPU, equals the plain reference, gradients included."""

import pytest

from interpreted import compiled, needs_triton, run

SCRIPT = """
import torch
from kinescribe.ops import frame_attention_triton as kernels
from kinescribe.ops.attention import frame_attention_reference

for frames, positions, heads, d in [(16, 6, 3, 32), (5, 7, 2, 16), (24, 3, 2, 64), (1, 2, 1, 16), (40, 2, 2, 16)]:
    q, k, v = (torch.randn(2, frames, positions, heads * d, requires_grad=True) for _ in range(3))
    grad = torch.randn_like(q)
    expected = frame_attention_reference(q, k, v, heads)
    expected.backward(grad)
    plain = [x.detach() for x in (q, k, v)]
    torch.testing.assert_close(kernels.forward(*plain, heads), expected, atol=2e-6, rtol=1e-5)
    packed = torch.cat(plain, -1).chunk(3, -1)
    assert kernels._alike(*packed)[0] is packed[0]
    torch.testing.assert_close(kernels.forward(*packed, heads), expected, atol=2e-6, rtol=1e-5)
    mixed = (plain[0], packed[1], plain[2].transpose(1, 2).contiguous().transpose(1, 2))
    torch.testing.assert_close(kernels.forward(*mixed, heads), expected, atol=2e-6, rtol=1e-5)
    for mine, theirs in zip(kernels.backward(*plain, grad, heads), (q, k, v), strict=True):
        torch.testing.assert_close(mine, theirs.grad, atol=2e-6, rtol=1e-5)
"""


@needs_triton
def test_kernel_equals_the_reference_forward_and_backward_packed_or_not() -> None:
    run(SCRIPT)


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_the_generations_that_they_are_chosen_for() -> None:
    compiled("""
from kinescribe.ops import frame_attention_triton as kernels

for frames, pixels in ((16, 4), (32, 4), (64, 1)):
    build(kernels._frame_attention, F=frames, D=64, P=pixels)
    build(kernels._frame_attention_backward, F=frames, D=64, P=pixels)
""")
