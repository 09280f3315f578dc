"""The kernels of 8-bit numbers, without a GPU: their numbers by the interpreter, their code by the compiler."""

import pytest

from interpreted import compiled, needs_triton, run

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
from kinescribe.ops.linear_fp8_triton import TILE, _linear_gated, _linear_joined, _quantise_rows
from kinescribe.ops.tiles import ENDS, GATED_FP8, GATED_FP8_NARROW
scales = {"scale_ptr": "*fp32", "row_scale_ptr": "*fp32", "factor_ptr": "*fp32"}
for width in (512, 2048, 8192):
    kinds = {**scales, "out_ptr": "*fp8e4nv"}
    made = build(_quantise_rows, generations=(90,), kinds=kinds, ROWS=max(1, TILE // width), WIDTH=width)
    assert "e4m3x2" in made
for tile in (GATED_FP8, GATED_FP8_NARROW):
    tiles = {"x": [tile.m, tile.k], "weight": [tile.n // 2, 2, tile.k]}
    kinds = {**scales, **{name: f"tensordesc<fp8e4nv{shape}>" for name, shape in tiles.items()}}
    for eight in (False, True):
        made = build(
            _linear_gated, warps=tile.warps, stages=tile.stages, generations=(90,),
            kinds={**kinds, "out_ptr": "*fp8e4nv"} if eight else kinds,
            EIGHT=eight, M=tile.m, N=tile.n, K=tile.k, GROUP=tile.group,
        )
        assert f"n{tile.n}k32.f32.e4m3.e4m3" in made and ("satfinite.e4m3x2" in made) == eight
for tile in ENDS:
    rows = {"stream": tile.m, "weight": tile.n, "weight_beside": tile.beside}
    rows8 = {"gated": tile.m, "folded": tile.n, "folded_beside": tile.beside}
    kinds = {name: f"tensordesc<fp8e4nv{[count, 2 * tile.k]}>" for name, count in rows8.items()}
    made = build(
        _linear_joined, warps=tile.warps, stages=tile.stages, generations=(90,), kinds={**scales, **kinds},
        tiles={name: [count, tile.k] for name, count in rows.items()},
        M=tile.m, N=tile.n, BESIDE=tile.beside, K=tile.k,
    )
    assert "k32.f32.e4m3.e4m3" in made and "k16.f32.f16.f16" in made
"""

PRODUCT = """
import torch
from kinescribe.ops.linear import geglu_reference
from kinescribe.ops.linear_fp8 import copied, quantise_rows
from kinescribe.ops.linear_fp8_triton import linear_gated
from kinescribe.ops.tiles import Tile
torch.manual_seed(0)
for m, n, k, together in [(1, 64, 32, 1), (77, 128, 96, 1), (5 * 32, 3 * 64, 32, 2), (33, 64, 48, 1)]:
    tile = Tile(32, 64, 32, warps=4, stages=2, group=2, together=together)
    copy, bias = copied([torch.randn(n, k)]), torch.randn(n)
    numbers, scales = quantise_rows(torch.randn(m, k) * 10 ** torch.randn(m, 1))
    exact = (numbers.double() * scales) @ (copy.numbers.double() * copy.scales).T + bias
    wide = torch.full((m, n // 2 + 16), 7.0)
    linear_gated(numbers, scales, copy.numbers, copy.scales, bias, tile, wide[:, 16:])
    value, gate = exact.chunk(2, -1)
    expected = value * torch.nn.functional.gelu(gate, approximate="tanh")
    assert (expected - geglu_reference(exact)).norm() / expected.norm() < 1e-3
    assert (wide[:, 16:] - expected).norm() / expected.norm() < 1e-6, (m, n, k)
    assert bool((wide[:, :16] == 7).all())
    factors = 400 / expected.abs().amax(0).clamp(min=1e-2).float() * (0.5 + 0.5 * torch.rand(n // 2))
    eighths = torch.empty(m, n // 2, dtype=torch.float8_e4m3fn)
    linear_gated(numbers, scales, copy.numbers, copy.scales, bias, tile, eighths, factors)
    scaled = expected * factors
    near = (eighths.double() - scaled).abs() <= scaled.abs() / 7 + 2.0**-6  # but for those that the cast carries
    assert near.double().mean() > 0.97, float(near.double().mean())
"""

JOINED = """
import torch
from kinescribe.ops.linear_fp8_triton import linear_joined
from kinescribe.ops.tiles import EndTile
torch.manual_seed(0)
for m, n, k in [(1, 48, 16), (77, 96, 48), (64, 144, 80)]:
    tile = EndTile(32, 32, 16, 16, warps=4, stages=2)
    clip, stream, weight = torch.randn(m, n), torch.randn(m, k), torch.randn(n, k)
    gated, folded = (torch.randn(rows, 4 * k).mul(30).to(torch.float8_e4m3fn) for rows in (m, n))
    scale = torch.tensor(1e-3)
    expected = clip.double() + stream.double() @ weight.double().T
    expected += scale * (gated.double() @ folded.double().T)
    linear_joined(clip, stream, gated, weight, folded, scale, tile)
    assert (clip - expected).norm() / expected.norm() < 1e-6, (m, n, k)
"""


@needs_triton
def test_the_kernel_gives_the_numbers_of_the_plain_version() -> None:
    run(NUMBERS)


@needs_triton
def test_the_gated_product_equals_that_of_the_same_numbers() -> None:
    run(PRODUCT)


@needs_triton
def test_the_end_of_a_transformer_equals_that_of_the_same_numbers() -> None:
    run(JOINED)


@needs_triton
@pytest.mark.slow
def test_the_kernels_compile_to_the_casts_and_the_products_of_the_device() -> None:
    compiled(CODE)
