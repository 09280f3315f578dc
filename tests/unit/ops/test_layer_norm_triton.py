"""The layer norm's kernel, run by Triton's interpreter on the CPU, equals the plain reference in float64."""

import pytest

from interpreted import compiled, needs_triton, run

SCRIPT = """
import torch
from kinescribe.ops import layer_norm_triton as kernels
from kinescribe.ops.layer_norm import layer_norm_reference

torch.manual_seed(0)
for rows, width, dtype, bound in [
    (37, 64, torch.float32, 2e-7), (9, 320, torch.float32, 2e-7), (3, 1280, torch.float16, 1e-3),
    (5, 640, torch.bfloat16, 8e-3), (1, 7, torch.float32, 2e-7),
]:
    x, y = ((torch.randn(1, rows, width) + 1).to(dtype) for _ in range(2))
    weight, bias = torch.randn(2, width).to(dtype)
    for other, waiting, ahead in ((None, None, None), (y, None, None), (y, weight, None), (y, weight, bias)):
        total, out = kernels.forward(x, other, weight, bias, 1e-5, waiting, ahead)
        expected = x.float() + (0 if other is None else other.float())
        expected = expected if waiting is None else expected + waiting.float()
        whole = (expected if ahead is None else expected + ahead.float()).to(dtype)
        expected = expected.to(dtype)
        # the interpreter cuts bfloat16 off instead of rounding it
        assert torch.equal(total, whole) or dtype == torch.bfloat16
        expected = layer_norm_reference(expected.double(), weight.double(), bias.double(), 1e-5)
        assert out.dtype == dtype and (out - expected).norm() / expected.norm() < bound, (rows, width)
"""

EIGHT = """
import torch
from kinescribe.ops import layer_norm_triton as kernels
from kinescribe.ops.linear_fp8 import quantise_rows_reference
from kinescribe.ops.linear_fp8_triton import quantise_rows

torch.manual_seed(0)
for rows, width in [(37, 64), (9, 320), (3, 1280)]:
    x, y = (torch.randn(2, rows, width) + 1).half(), torch.randn(2, rows, width).half()
    weight, bias = torch.randn(2, width).half()
    x[0, 1] = 0
    for given in ((None, weight, 0 * bias), (y, weight, bias), (y, weight, bias, 1e-5, weight, bias)):
        other, *rest = (*given, 1e-5)[:4]
        more = given[4:]
        total, out = kernels.forward(x, other, *rest, *more)
        total8, numbers, scales = kernels.forward_rows8(x, other, *rest, *more)
        assert torch.equal(total8, total) and numbers.shape == x.shape and scales.shape == (2, rows, 1)
        # both by the interpreter, whose casts to 8 bits are its own
        wanted, wanted_scales = quantise_rows(out.view(-1, width))
        assert numbers.dtype == torch.float8_e4m3fn
        assert torch.equal(numbers.view(torch.uint8).view(-1, width), wanted.view(torch.uint8))
        assert torch.equal(scales.view(-1, 1), wanted_scales)
        assert torch.equal(wanted_scales, quantise_rows_reference(out.view(-1, width))[1])
"""


@needs_triton
def test_kernel_equals_the_reference() -> None:
    run(SCRIPT)


@needs_triton
def test_kernel_writes_the_numbers_that_its_norm_has_in_eight_bits() -> None:
    run(EIGHT)


@pytest.mark.slow
@needs_triton
def test_kernel_compiles_for_the_generations_that_it_is_chosen_for() -> None:
    compiled("""
from kinescribe.ops import layer_norm_triton as kernels

for width in (512, 2048):
    for add, waiting, ahead in ((False, False, False), (True, True, False), (True, True, True)):
        which = {"ADD": add, "WAITING": waiting, "AHEAD": ahead, "ROWS": kernels.TILE // width, "WIDTH": width}
        build(kernels._normalise, EIGHT=False, **which)
        eight = {"out_ptr": "*fp8e4nv", "scale_ptr": "*fp32"}
        assert "e4m3x2" in build(kernels._normalise, generations=(90,), kinds=eight, EIGHT=True, **which)
""")
