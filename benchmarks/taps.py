"""Convolutions as products of taps beside the library's, in 16 and in 8 bits, with every way to tile their channels.

    python benchmarks/taps.py [--only enlarged] [--dtype bfloat16] [--out benchmarks/results/NAME.txt]

At the shapes of text to video and of 24 x 320 x 576. Times as those of `ops.py`; errors are of the sums alone, against
float32 sums of the same numbers. `kinescribe.ops.tiles` has its times from here; the way that it chooses is marked.
Enlarging convolutions, in 16 bits alone, stand beside the library's by phases with the pass that places them.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from kinescribe.ops.normed_convolution import kernel_copied
from kinescribe.ops.taps_triton import convolve
from kinescribe.ops.tiles import (
    MOST_PARTS,
    MULTIPROCESSORS,
    WAYS,
    ConvolutionTile,
    Sizes,
    Taps,
    convolution_tile,
    enlarging_tile,
)
from kinescribe.ops.upsample import phases, upsample_conv_reference
from kinescribe.ops.upsample_triton import place_op
from ops import microseconds, random

SHAPES: list[tuple[Sizes, Taps]] = [
    ((32, 32, 32), (320, 3, 3, 320)), ((32, 32, 32), (320, 3, 3, 640)), ((32, 32, 32), (320, 3, 3, 960)),
    ((32, 16, 16), (640, 3, 3, 320)), ((32, 16, 16), (640, 3, 3, 640)), ((32, 16, 16), (640, 3, 3, 1280)),
    ((32, 8, 8), (1280, 3, 3, 1280)), ((32, 8, 8), (1280, 3, 3, 2560)), ((32, 4, 4), (1280, 3, 3, 1280)),
    ((32, 4, 4), (1280, 3, 3, 2560)), ((48, 40, 72), (320, 3, 3, 320)), ((48, 20, 36), (640, 3, 3, 640)),
    ((48, 10, 18), (1280, 3, 3, 1280)), ((48, 5, 9), (1280, 3, 3, 1280)), ((2, 16, 1024), (320, 3, 1, 320)),
    ((2, 16, 256), (640, 3, 1, 640)), ((2, 16, 64), (1280, 3, 1, 1280)), ((2, 16, 16), (1280, 3, 1, 1280)),
    ((2, 24, 2880), (320, 3, 1, 320)), ((2, 24, 720), (640, 3, 1, 640)), ((2, 24, 45), (1280, 3, 1, 1280)),
]  # fmt: skip
ENLARGED: list[tuple[Sizes, int]] = [
    ((32, 4, 4), 1280), ((32, 8, 8), 1280), ((32, 16, 16), 640), ((48, 5, 9), 1280), ((48, 10, 18), 1280),
    ((48, 20, 36), 640), ((16, 32, 32), 512), ((16, 64, 64), 512), ((16, 128, 128), 256),
]  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["same size", "enlarged"])
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines, dtype = [], getattr(torch, options.dtype)
    work = {
        "same size": (measured(*shape, dtype) for shape in SHAPES),
        "enlarged": (enlarged(*shape, dtype) for shape in ENLARGED),
    }
    for kind, shapes in work.items():
        for line in chain.from_iterable(shapes if options.only in (None, kind) else ()):
            print(line, flush=True)
            lines.append(line)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


@torch.inference_mode()
def measured(sizes: Sizes, taps: Taps, dtype: torch.dtype) -> Iterator[str]:
    """Lines of one shape: the library, then every way in 16 and in 8 bits."""
    (b, h, w), (o, tall, wide, c) = sizes, taps
    padding = tall // 2, wide // 2
    kernel = (random(o, c, tall, wide, dtype=dtype) * (tall * wide * c) ** -0.5).contiguous(
        memory_format=torch.channels_last
    )

    def pictures() -> tuple[Tensor, ...]:
        return (random(b, c, h, w, dtype=dtype).contiguous(memory_format=torch.channels_last),)

    operations = 2 * b * h * w * o * tall * wide * c
    library = microseconds(lambda x: F.conv2d(x, kernel, padding=padding), pictures)
    yield f"{b} x {c}-{o} x {h} x {w} by {tall} x {wide}: library {told(library, operations)}"
    copy = kernel_copied(kernel, torch.ones_like(kernel[0, :, 0, 0]), torch.zeros_like(kernel[0, :, 0, 0]))
    for rows in (kernel.permute(0, 2, 3, 1), copy.taps):

        def inputs(like: torch.dtype = rows.dtype) -> tuple[Tensor, ...]:
            return (pictures()[0].to(like),)

        (x,) = inputs()
        exact = F.conv2d(x.float(), rows.float().permute(0, 3, 1, 2), padding=padding)
        for tile in tiles(sizes, taps, rows.itemsize, convolution_tile):
            call = lambda x, rows=rows, tile=tile: convolve(x, rows, dtype, tile)  # noqa: E731
            error = float((call(x).float() - exact).norm() / exact.norm())
            chosen = "  chosen" if tile == convolution_tile(sizes, taps, rows.itemsize) else ""
            yield (
                f"    {8 * rows.itemsize:2} bits, {tile.n} + {tile.beside} channels, {tile.parts} parts: "
                f"{told(microseconds(call, inputs), operations)}, error {error:.1e}{chosen}"
            )


@torch.inference_mode()
def enlarged(sizes: Sizes, c: int, dtype: torch.dtype) -> Iterator[str]:
    """Lines of one enlarging convolution: plain, the library's by phases, then every way to tile the phases."""
    b, h, w = sizes
    weight, bias = random(c, c, 3, 3, dtype=dtype) * (9 * c) ** -0.5, random(c, dtype=dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    kernels = phases(weight)
    rows = kernels.permute(0, 2, 3, 1)

    def inputs() -> tuple[Tensor, ...]:
        return (random(b, c, h, w, dtype=dtype).contiguous(memory_format=torch.channels_last),)

    versions: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": lambda x: upsample_conv_reference(x, weight, bias),
        "library by phases": lambda x: place_op(F.conv2d(x, kernels, padding=1), bias),
    }
    taps, operations = (4 * c, 2, 2, c), 2 * b * h * w * 16 * c * c
    for tile in tiles(sizes, taps, 2, enlarging_tile):
        chosen = "  chosen" if tile == enlarging_tile(sizes, taps, 2) else ""
        versions[f"{tile.n} + {tile.beside} channels, {tile.parts} parts{chosen}"] = lambda x, tile=tile: (
            convolve(x, rows, dtype, tile, bias=bias, times=2)
        )
    yield f"{b} x {c} x {h} x {w} enlarged; plain has 9/4 of the operations counted"
    (x,) = inputs()
    exact = upsample_conv_reference(x.float(), weight.float(), bias.float())
    for name, call in versions.items():
        error = float((call(x).float() - exact).norm() / exact.norm())
        yield f"    {name}: {told(microseconds(call, inputs), operations)}, error {error:.1e}"


def tiles(
    sizes: Sizes, taps: Taps, size: int, choose: Callable[[Sizes, Taps, int], ConvolutionTile | None]
) -> Iterator[ConvolutionTile]:
    """Every way with as many parts as still fit on the multiprocessors about twice."""
    known, (o, tall, wide, c) = choose(sizes, taps, size), taps
    sets = 4 if choose is enlarging_tile else 1
    if known is None:
        return
    steps = tall * wide * c // known.k
    for way in WAYS:
        if o % (sets * (way.n + way.beside)):
            continue
        tile = replace(known, n=way.n, beside=way.beside, warps=way.warps, together=len(way.steps), parts=1)
        boxes = prod(-(-length // side) for length, side in zip(sizes, tile.box, strict=True))
        alone = boxes * o // (way.n + way.beside)
        for parts in range(1, MOST_PARTS + 1):
            if steps % parts == 0 and (parts == 1 or alone * parts <= 2 * tile.together * MULTIPROCESSORS):
                yield replace(tile, parts=parts)


def told(time: float, operations: float) -> str:
    """A time and the speed that it means."""
    return f"{time:.1f} us ({operations / time / 1e6:.0f} TFLOP/s)"


if __name__ == "__main__":
    main()
