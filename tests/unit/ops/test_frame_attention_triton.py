"""The attention kernel, run by Triton's interpreter on the CPU, equals the plain reference, gradients included."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# A process of its own: the interpreter is chosen when Triton is imported, and the checks of the other tests
# rewrite functions, which kernels do not survive.
SCRIPT = """
import torch
from kinescribe.ops import frame_attention_triton as kernels
from kinescribe.ops.attention import frame_attention_reference

for frames, positions, heads, d in [(16, 6, 3, 32), (5, 7, 2, 16), (24, 3, 2, 64), (1, 2, 1, 16)]:
    q, k, v = (torch.randn(2, frames, positions, heads * d, requires_grad=True) for _ in range(3))
    grad = torch.randn_like(q)
    expected = frame_attention_reference(q, k, v, heads)
    expected.backward(grad)
    plain = [x.detach() for x in (q, k, v)]
    torch.testing.assert_close(kernels.forward(*plain, heads), expected, atol=2e-6, rtol=1e-5)
    for mine, theirs in zip(kernels.backward(*plain, grad, heads), (q, k, v), strict=True):
        torch.testing.assert_close(mine, theirs.grad, atol=2e-6, rtol=1e-5)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with builds of torch for a GPU only")
def test_kernel_equals_the_reference_forward_and_backward() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
