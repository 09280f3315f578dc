"""The linear kernels, run by Triton's interpreter on the CPU, equal the plain reference in float64."""

import pytest

from interpreted import compiled, needs_triton, run

SCRIPT = """
import torch
from torch.nn import functional as F
from kinescribe.ops import linear_triton as kernels
from kinescribe.ops.linear import geglu_reference
from kinescribe.ops.tiles import Tile

torch.manual_seed(0)
for rows, width in [(5, 7), (3, 300), (130, 64)]:
    x = torch.randn(2, rows, 2 * width) * 3
    out, expected = kernels.geglu(x), geglu_reference(x.double())
    assert out.shape == expected.shape and (out - expected).norm() / expected.norm() < 2e-7

for m, n, k, together in [(1, 64, 32, 1), (77, 128, 96, 1), (5 * 32, 3 * 64, 32, 2), (33, 64, 64, 1)]:
    tile = Tile(32, 64, 32, warps=4, stages=2, group=2, together=together)
    x, weight, bias, residual = torch.randn(1, m, k), torch.randn(n, k), torch.randn(n), torch.randn(1, m, n)
    exact = F.linear(x.double(), weight.double(), bias.double())
    for out, expected in [
        (kernels.linear(x, weight, bias, residual, tile), exact + residual),
        (kernels.linear(x, weight, bias, None, tile), geglu_reference(exact)),
    ]:
        assert out.shape == expected.shape
        assert (out - expected).norm() / expected.norm() < 1e-6, (m, n, k)
"""


@needs_triton
def test_kernels_equal_the_reference() -> None:
    run(SCRIPT)


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_the_generations_that_they_are_chosen_for() -> None:
    compiled("""
from kinescribe.ops import linear_triton as kernels
from kinescribe.ops.tiles import ADDED, GATED

build(kernels._geglu, ROWS=8, WIDTH=256)
for gated, tile in ((True, GATED), (False, ADDED)):
    weight = (tile.n // 2, 2, tile.k) if gated else (tile.n, tile.k)
    build(
        kernels._linear, warps=tile.warps, stages=tile.stages, generations=(90,),
        tiles={"x": (tile.m, tile.k), "weight": weight},
        GATED=gated, M=tile.m, N=tile.n, K=tile.k, GROUP=tile.group,
    )
""")
