"""The kernel that makes 8-bit numbers, without a GPU: its numbers by the interpreter, its code by the compiler."""

import pytest

from interpreted import needs_triton, run

NUMBERS = """
import torch
from kinescribe.ops.linear_fp8 import quantise_rows_reference
from kinescribe.ops.linear_fp8_triton import quantise_rows
for rows, width in ((5, 32), (33, 320), (3, 5120)):
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows)).half()
    x[1], x[2, 3] = 0, 600.0
    found, scales = quantise_rows(x)
    wanted, wanted_scales = quantise_rows_reference(x)
    torch.testing.assert_close(scales, wanted_scales)
    assert found.dtype == torch.float8_e4m3fn and found.shape == wanted.shape
    # the interpreter's cast loses what is carried to the next power of two and the last bits of the least numbers,
    # and takes halves upwards
    before, found, wanted = x.float() / scales, found.float(), wanted.float()
    carried = (torch.frexp(wanted)[0].abs() == 0.5) & (before.abs() < wanted.abs())
    judged = ~carried & (before.abs() > 2.0**-6)
    assert judged.float().mean() > 0.5
    halves = (before - found).abs() == (before - wanted).abs()
    assert bool(((found == wanted) | halves)[judged].all())
"""

CODE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kinescribe.ops.linear_fp8_triton import TILE, _quantise_rows
names = _quantise_rows.arg_names
kinds = {"x_ptr": "*fp16", "out_ptr": "*fp8e4nv", "scale_ptr": "*fp32", "rows": "i32", "width": "i32", "least": "fp32",
         "largest": "fp32"}
for width in (512, 2048, 8192):
    constants = {(names.index("ROWS"),): max(1, TILE // width), (names.index("WIDTH"),): width}
    signature = {name: kinds.get(name, "constexpr") for name in names}
    source = ASTSource(fn=_quantise_rows, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert "e4m3x2" in made.asm["ptx"]
"""


@needs_triton
def test_the_kernel_gives_the_numbers_of_the_plain_version() -> None:
    run(NUMBERS)


@needs_triton
@pytest.mark.slow
def test_the_kernel_compiles_to_the_cast_of_the_device() -> None:
    run(CODE, interpreted=False)
