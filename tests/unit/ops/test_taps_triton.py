"""Convolutions as products of taps without a GPU: the kernel's numbers by the interpreter, its code by the compiler."""

import pytest

from interpreted import compiled, needs_triton, run

SUMS = """
from dataclasses import replace
import torch
from torch.nn import functional as F
from kinescribe.ops.normed_convolution import kernel_copied
from kinescribe.ops.taps_triton import convolve
from kinescribe.ops.tiles import ConvolutionTile
torch.manual_seed(0)
whole = ConvolutionTile((1, 4, 8), n=32, beside=16, k=16, warps=4, stages=2, together=1, parts=1)
# ragged boxes, several pictures in one, channels beside or not, parts of the factors, more tiles than programs
for tile, (b, c, n, h, w), (tall, wide) in [
    (whole, (3, 32, 48, 5, 6), (3, 3)),
    (replace(whole, parts=3), (3, 32, 48, 5, 6), (3, 3)),
    (replace(whole, box=(8, 2, 2), beside=0), (5, 16, 64, 4, 4), (3, 3)),
    (replace(whole, box=(1, 1, 32), together=2), (2, 16, 96, 5, 40), (3, 1)),
    (replace(whole, box=(2, 4, 4), parts=2), (1, 32, 48, 3, 3), (3, 1)),
]:
    x = torch.randn(b, c, h, w).to(torch.float8_e4m3fn).contiguous(memory_format=torch.channels_last)
    copy = kernel_copied(torch.randn(n, c, tall, wide), torch.ones(c), torch.zeros(c))
    taps = copy.taps.double().permute(0, 3, 1, 2) * copy.scale
    wanted = F.conv2d(x.double(), taps, padding=(tall // 2, wide // 2))
    found = convolve(x, copy.taps, torch.float32, tile, copy.scale)
    assert found.shape == wanted.shape and found.is_contiguous(memory_format=torch.channels_last)
    assert (found - wanted).norm() / wanted.norm() < 1e-6, (tile, h, w)
    stream = torch.randn_like(found)
    bias, ahead = torch.randn(2, 1, n)
    for more in (None, ahead):
        total = stream + wanted + (bias if more is None else bias + more)[:, :, None, None]
        found = convolve(x, copy.taps, torch.float32, tile, copy.scale, stream, bias, more)
        assert (found - total).norm() / total.norm() < 1e-6, (tile, h, w)
    plain = torch.randn(n, c, tall, wide)
    x = torch.randn(b, c, h, w)
    wanted = F.conv2d(x.double(), plain.double(), padding=(tall // 2, wide // 2))
    found = convolve(x, plain.permute(0, 2, 3, 1), torch.float32, tile)
    assert (found - wanted).norm() / wanted.norm() < 1e-6, (tile, h, w)
"""

ENLARGED = """
from dataclasses import replace
import torch
from kinescribe.ops.taps_triton import convolve
from kinescribe.ops.tiles import ConvolutionTile
from kinescribe.ops.upsample import phases, upsample_conv_reference
torch.manual_seed(0)
whole = ConvolutionTile((1, 4, 8), n=32, beside=16, k=16, warps=4, stages=2, together=1, parts=1)
# odd sizes, one pixel, ragged boxes, several pictures in one, sets of one tile and of two, parts, with bias and without
for tile, (b, c, o, h, w), biased in [
    (whole, (2, 32, 48, 5, 7), True),
    (replace(whole, parts=4), (2, 32, 48, 3, 9), False),
    (replace(whole, box=(8, 2, 2), n=16, beside=0), (5, 16, 32, 3, 3), False),
    (replace(whole, box=(1, 1, 32), n=64, beside=0), (1, 16, 64, 3, 33), True),
    (replace(whole, box=(8, 2, 2), parts=2), (9, 16, 96, 1, 1), True),
]:
    x = torch.randn(b, c, h, w).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(o, c, 3, 3), torch.randn(o)
    wanted = upsample_conv_reference(x.double(), weight.double(), bias.double() if biased else None)
    taps = phases(weight).permute(0, 2, 3, 1)
    found = convolve(x, taps, torch.float32, tile, bias=bias if biased else None, times=2)
    assert found.shape == wanted.shape and found.is_contiguous(memory_format=torch.channels_last)
    assert (found - wanted).norm() / wanted.norm() < 1e-6, (tile, h, w)
"""

CODE = """
from kinescribe.ops.taps_triton import JOINED, LEAST, _convolve, _join
from kinescribe.ops.tiles import convolution_tile, enlarging_tile
for shape in (
    ((32, 32, 32), (320, 3, 3, 320)), ((32, 8, 8), (1280, 3, 3, 2560)), ((32, 4, 4), (1280, 3, 3, 1280)),
    ((2, 16, 1024), (320, 3, 1, 320)), ((2, 16, 16), (1280, 3, 1, 1280)),
):
    for size, kind, product in ((1, "fp8e4nv", "m64n128k32.f32.e4m3.e4m3"), (2, "bf16", "m64n128k16.f32.bf16.bf16")):
        tile = convolution_tile(*shape, size)
        _, tall, wide, _ = shape[1]
        sides = {"x": [*tile.box, tile.k], "taps": [tile.n, tile.k], "taps_beside": [tile.beside or LEAST, tile.k]}
        kinds = {name: f"tensordesc<{kind}{side}>" for name, side in sides.items()}
        kinds |= {"scale_ptr": "*fp32", "out_ptr": "*fp32" if tile.parts > 1 else "*bf16"}
        p, h, w = tile.box
        alone = tile.parts == 1
        made = build(
            _convolve, warps=tile.warps, stages=tile.stages, generations=(90,), kinds=kinds, TALL=tall, WIDE=wide,
            P=p, H=h, W=w, N=tile.n, BESIDE=tile.beside, K=tile.k, SCALED=alone, ONTO=alone, BIASED=alone, AHEAD=alone,
            TIMES=1,
        )
        assert product in made
        # both sides are read where the copy engine left them, and the next product does not wait for this one
        assert f"wgmma.wait_group.sync.aligned {2 if tile.beside else 1}" in made
for sizes, c in (((32, 8, 8), 1280), ((32, 4, 4), 1280), ((48, 10, 18), 1280), ((16, 128, 128), 256)):
    tile = enlarging_tile(sizes, (4 * c, 2, 2, c), 2)
    sides = {"x": [*tile.box, tile.k], "taps": [tile.n, tile.k], "taps_beside": [tile.beside or LEAST, tile.k]}
    kinds = {name: f"tensordesc<bf16{side}>" for name, side in sides.items()}
    kinds |= {"scale_ptr": "*fp32", "out_ptr": "*fp32" if tile.parts > 1 else "*bf16"}
    p, h, w = tile.box
    made = build(
        _convolve, warps=tile.warps, stages=tile.stages, generations=(90,), kinds=kinds, TALL=2, WIDE=2, TIMES=2,
        P=p, H=h, W=w, N=tile.n, BESIDE=tile.beside, K=tile.k, SCALED=False, ONTO=False, BIASED=tile.parts == 1,
        AHEAD=False,
    )
    assert f"wgmma.wait_group.sync.aligned {2 if tile.beside else 1}" in made
kinds = {name: "*fp32" for name in ("sums_ptr", "scale_ptr")}
build(_join, generations=(90,), kinds=kinds, SCALED=True, ONTO=True, BIASED=True, AHEAD=True, SIZE=JOINED)
build(_join, generations=(90,), kinds=kinds, SCALED=False, ONTO=False, BIASED=True, AHEAD=False, SIZE=JOINED)
"""


@needs_triton
def test_the_kernel_gives_the_sums_of_the_same_numbers() -> None:
    run(SUMS)


@needs_triton
def test_the_kernel_enlarges_as_the_plain_enlargement_and_convolution() -> None:
    run(ENLARGED)


@needs_triton
@pytest.mark.slow
def test_the_kernel_compiles_to_products_that_wait_for_nothing() -> None:
    compiled(CODE)
