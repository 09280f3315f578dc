"""Operations with kernels of their own, at the shapes of the large models: kernel, plain version, floor.

    python benchmarks/ops.py [--only NAME] [--dtype bfloat16] [--sweep] [--out benchmarks/results/NAME.json]

Floors: bytes (each input read once, each result written once) over the speed of a large copy, and operations over the
speed of a large matrix product, both measured first; the larger counts. Times are of CUDA graphs that go around
several sets of random inputs, too many for the cache, the median of their replays. `--sweep` also tries the tiles of
the matrix products and the sizes of the group norm, and prints the best; the tables in `kinescribe.ops` are theirs.
"""

import argparse
import datetime
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from itertools import product as combinations
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from kinescribe.ops import group_norm_triton, layer_norm_triton, linear_triton
from kinescribe.ops.attention import attention, frame_attention
from kinescribe.ops.convolution import add
from kinescribe.ops.group_norm import group_norm
from kinescribe.ops.layer_norm import add_layer_norm, layer_norm
from kinescribe.ops.linear import geglu, geglu_reference, linear_add, linear_geglu
from kinescribe.ops.parts import joined
from kinescribe.ops.tiles import Tile, linear_tile

Version = Callable[..., Any]
READS = ((2048, 4), (4096, 4), (4096, 8), (8192, 4), (8192, 16))
"""Numbers that a program of a group norm's first reading reads at a time, and its warps."""
COLD = 256 << 20
"""Bytes of inputs that a graph goes around: several times the cache of a large GPU."""


@dataclass(frozen=True)
class Case:
    """One operation at one shape."""

    name: str
    shape: str
    inputs: Callable[[], tuple[Tensor, ...]]
    versions: dict[str, Version]
    moved: float
    """Bytes."""
    operations: float = 0.0


@dataclass(frozen=True)
class Device:
    """What the floors divide by: bytes and operations a second."""

    copy: float
    product: float

    def floor(self, case: Case) -> float:
        """Microseconds that the case needs at least."""
        return 1e6 * max(case.moved / self.copy, case.operations / self.product)


def last(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The last tensor of a result: the norm where a sum comes with it."""
    return result if isinstance(result, Tensor) else result[-1]


def microseconds(call: Version, inputs: Callable[[], tuple[Tensor, ...]], replays: int = 15) -> float:
    """Median time of a call within a graph of calls on changing inputs."""
    sets = [inputs()]
    size = sum(x.numel() * x.element_size() for x in sets[0])
    sets += [inputs() for _ in range(min(max(COLD // size, 1), 64))]
    call(*sets[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for arguments in sets:
            call(*arguments)
    times = []
    for i in range(replays + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            times.append(1e3 * start.elapsed_time(end) / len(sets))
    return statistics.median(times)


def measured_device(dtype: torch.dtype) -> Device:
    """Copy of 1 GiB and product of 8192 x 8192."""
    copy = microseconds(torch.clone, lambda: (torch.randn(1 << 29, device="cuda").to(dtype),))
    square = microseconds(
        torch.mm, lambda: tuple(torch.randn(2, 8192, 8192, device="cuda").to(dtype).unbind())
    )
    return Device(copy=2e6 * 2 * (1 << 29) / copy, product=1e6 * 2 * 8192**3 / square)


def cases(dtype: torch.dtype) -> Iterator[Case]:
    """All operations at all shapes."""
    yield from norm_cases(dtype)
    yield from parts_cases(dtype)
    yield from convolution_cases(dtype)
    yield from attention_cases(dtype)
    yield from pixel_attention_cases(dtype)
    yield from row_cases(dtype)
    yield from linear_cases(dtype)


def random(*shape: int, dtype: torch.dtype) -> Tensor:
    """Random numbers in rows."""
    return torch.randn(shape, device="cuda", dtype=dtype)


# name: pictures or clips, channels, height, width; as a text-to-video step with guidance has them, then 720p
NORMED = {
    "frames": [
        (32, 320, 32, 32),
        (32, 640, 32, 32),
        (32, 960, 32, 32),
        (32, 640, 16, 16),
        (32, 1280, 16, 16),
    ],
    "deep frames": [(32, 1280, 8, 8), (32, 2560, 8, 8), (32, 1280, 4, 4), (32, 2560, 4, 4)],
    "clips": [
        (2, 320, 16, 1024),
        (2, 640, 16, 256),
        (2, 1280, 16, 64),
        (2, 1280, 16, 16),
        (1, 320, 32, 14400),
    ],
    "autoencoder": [(16, 512, 32, 32), (16, 128, 256, 256), (1, 128, 720, 1280), (1, 256, 720, 1280)],
}


def norm_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Group norms with SiLU; with a shift of every channel besides."""
    for kind, shapes in NORMED.items():
        for shape in shapes:
            b, c = shape[:2]
            few = 2 if b == 32 else b
            weight, bias = random(2, c, dtype=dtype)
            shift = random(few, c, dtype=dtype)

            def pictures(shape: tuple[int, ...] = shape) -> tuple[Tensor, ...]:
                return (random(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last),)

            def plain(x: Tensor, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
                out = F.silu(F.group_norm(x, 32, weight, bias, 1e-5), inplace=True)
                return out.contiguous(memory_format=torch.channels_last)

            def kernel(
                x: Tensor, shift: Tensor | None = None, weight: Tensor = weight, bias: Tensor = bias
            ) -> Tensor:
                return group_norm(x, 32, weight, bias, 1e-5, silu=True, shift=shift)

            def shifted(x: Tensor, shift: Tensor = shift, few: int = few, plain: Version = plain) -> Tensor:
                return plain(x + shift.repeat_interleave(len(x) // few, 0)[:, :, None, None])

            size, label = 2.0 * torch.Size(shape).numel(), f"{kind} {'x'.join(map(str, shape))}"
            yield Case("group_norm", label, pictures, {"kernel": kernel, "plain": plain}, 2 * size)
            if kind == "frames":
                with_shift = {"kernel": lambda x, k=kernel, s=shift: k(x, s), "plain": shifted}
                yield Case("group_norm+shift", label, pictures, with_shift, 2 * size)


# pictures or clips, channels, height, width; channels beside those, or 0 for a sum, and pictures of the second part
PARTS = [
    ((32, 320, 32, 32), 0, 32), ((2, 320, 16, 1024), 0, 2), ((2, 640, 16, 256), 0, 2), ((2, 1280, 16, 64), 0, 2),
    ((32, 640, 32, 32), 320, 16), ((32, 320, 32, 32), 320, 16), ((48, 320, 40, 72), 0, 48), ((2, 320, 24, 2880), 0, 2),
    ((48, 640, 40, 72), 320, 24), ((48, 320, 40, 72), 320, 24), ((16, 128, 256, 256), 0, 16),
    ((16, 256, 128, 128), 0, 16), ((16, 512, 64, 64), 0, 16),
]  # fmt: skip


def parts_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Sums with a bias and channels side by side, each with its group norm: together, and as a pass and a norm."""
    return (parts_case(shape, beside, others, dtype) for shape, beside, others in PARTS)


def parts_case(shape: tuple[int, ...], beside: int, others: int, dtype: torch.dtype) -> Case:
    """One of them."""
    b, c, *sides = shape
    weight, bias = random(2, c + beside, dtype=dtype)
    waiting = random(1, c, dtype=dtype)
    sizes = shape, (others, beside or c, *sides)

    def inputs() -> tuple[Tensor, ...]:
        return tuple(
            random(*size, dtype=dtype).contiguous(memory_format=torch.channels_last) for size in sizes
        )

    def together(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        rest = None, weight, bias, 32, 1e-5, True
        return group_norm_triton.forward_of_parts(x, y, waiting, None, bool(beside), *rest)

    def apart(x: Tensor, y: Tensor) -> Tensor:
        return group_norm(joined(x, y) if beside else add(x, y, waiting), 32, weight, bias, 1e-5, silu=True)

    def plain(x: Tensor, y: Tensor) -> Tensor:
        y = y.repeat(b // others, 1, 1, 1)
        whole = torch.cat([x, y], 1) if beside else x + (y + waiting[:, :, None, None])
        return F.silu(F.group_norm(whole, 32, weight, bias, 1e-5), inplace=True)

    label = "x".join(map(str, shape)) + (f" beside {others}x{beside}" if beside else "")
    moved = 2.0 * prod(sides) * (b * c + others * (beside or c) + 2 * b * (c + beside))
    return Case("parts", label, inputs, {"kernel": together, "apart": apart, "plain": plain}, moved)


# name: pictures or clips, channels in and out, height, width
CONVOLVED = {
    "frames": [
        (32, 320, 320, 32, 32), (32, 640, 320, 32, 32), (32, 640, 640, 16, 16), (32, 1280, 640, 16, 16),
        (32, 1280, 1280, 8, 8), (32, 2560, 1280, 8, 8), (32, 1280, 1280, 4, 4),
    ],
    "clips": [
        (2, 320, 320, 16, 1024), (2, 640, 640, 16, 256), (2, 1280, 1280, 16, 64), (2, 1280, 1280, 16, 16),
        (1, 320, 320, 32, 14400),
    ],
    "autoencoder": [(16, 512, 512, 32, 32), (16, 256, 256, 128, 128), (16, 128, 128, 256, 256)],
}  # fmt: skip


def convolution_cases(dtype: torch.dtype) -> Iterator[Case]:
    """The library's convolutions; `plain` has a kernel in the other layout, which is copied at every call."""
    for kind, shapes in CONVOLVED.items():
        for b, c, o, h, w in shapes:
            sides = (3, 1) if kind == "clips" else (3, 3)
            weight = random(o, c, *sides, dtype=dtype) * (sides[0] * sides[1] * c) ** -0.5
            laid = weight.contiguous(memory_format=torch.channels_last)
            padding = tuple(side // 2 for side in sides)

            def pictures(shape: tuple[int, ...] = (b, c, h, w)) -> tuple[Tensor, ...]:
                return (random(*shape, dtype=dtype).contiguous(memory_format=torch.channels_last),)

            def convolved(x: Tensor, weight: Tensor = laid, padding: tuple[int, ...] = padding) -> Tensor:
                return F.conv2d(x, weight, None, padding=padding)

            def searched(x: Tensor, call: Version = convolved) -> Tensor:
                with torch.backends.cudnn.flags(enabled=True, benchmark=True):
                    return call(x)  # type: ignore[no-any-return]

            versions: dict[str, Version] = {
                "kernel": convolved,
                "plain": lambda x, call=convolved, weight=weight: call(x, weight),
                "searched": searched,
            }
            if kind == "clips":
                versions["products"] = lambda x, weight=weight: three_products(x, weight)
            moved = 2.0 * (b * (c + o) * h * w + weight.numel())
            operations = 2.0 * b * h * w * weight.numel()
            yield Case("convolution", f"{kind} {b}x{c}-{o}x{h}x{w}", pictures, versions, moved, operations)
            if kind == "clips":
                yield from product_cases(b, c, o, h, w, laid, dtype)


def product_cases(
    b: int, c: int, o: int, f: int, n: int, weight: Tensor, dtype: torch.dtype
) -> Iterator[Case]:
    """A convolution along time as one product, of what the norm before it would have to write for that."""
    flat = weight.permute(0, 2, 3, 1).flatten(1)
    operations = 2.0 * b * f * n * weight.numel()

    def columns() -> tuple[Tensor, ...]:
        """Three frames of a pixel beside each other."""
        return (random(b * f * n, 3 * c, dtype=dtype),)

    def product(x: Tensor) -> Tensor:
        return F.linear(x, flat)

    def padded() -> tuple[Tensor, ...]:
        """All frames of a pixel beside each other, between two of zeros."""
        return (F.pad(random(b, n, f, c, dtype=dtype), (0, 0, 1, 1)),)

    def plain(x: Tensor) -> Tensor:
        columns = torch.stack([x[:, :, i : i + f] for i in range(3)], 3).flatten(3)
        return F.linear(columns, flat).permute(0, 2, 1, 3)

    def by_clip(x: Tensor) -> Tensor:
        out = x.new_empty(b, f, n, o)
        shared = flat.T.expand(f, -1, -1)
        for clip, made in zip(x, out, strict=True):
            torch.bmm(
                clip.as_strided((f, n, 3 * c), (c, (f + 2) * c, 1), clip.storage_offset()), shared, out=made
            )
        return out

    def at_once(x: Tensor) -> Tensor:
        frames = x.as_strided((f, b * n, 3 * c), (c, (f + 2) * c, 1))
        return torch.bmm(frames, flat.T.expand(f, -1, -1)).unflatten(1, (b, n)).transpose(0, 1)

    moved = 2.0 * (b * f * n * (o + 3 * c) + flat.numel())
    label = f"{b}x{c}-{o}x{f}x{n}"
    yield Case(
        "convolution as product", label, columns, {"kernel": product, "plain": product}, moved, operations
    )
    versions: dict[str, Version] = {"kernel": by_clip, "plain": plain, "at once": at_once}
    moved = 2.0 * (b * f * n * (o + c) + flat.numel())
    yield Case("convolution by pixel", label, padded, versions, moved, operations)


def three_products(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution along time as a product for each of its taps, added up in half precision."""
    before, now, after = (weight[:, :, i, 0].T.expand(len(x), -1, -1) for i in range(3))
    rows, width = x.permute(0, 2, 3, 1).flatten(1, 2), x.shape[3]
    out = rows @ now
    out[:, width:].baddbmm_(rows[:, :-width], before)
    out[:, :-width].baddbmm_(rows[:, width:], after)
    return rearrange(out, "b (f n) c -> b c f n", n=width)


def attention_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Attention over frames on packed projections."""
    shapes = [(2, 16, 1024, 8), (2, 16, 1024, 5), (2, 16, 256, 10), (2, 16, 64, 20), (2, 16, 16, 20)]
    for b, f, n, heads in [*shapes, (2, 24, 2880, 5), (1, 32, 14400, 5), (1, 64, 1024, 5)]:
        width = heads * 64

        def kernel(qkv: Tensor, heads: int = heads) -> Tensor:
            return frame_attention(*qkv.chunk(3, -1), heads)

        def plain(qkv: Tensor, heads: int = heads) -> Tensor:
            parts = (rearrange(x, "b f n (h d) -> (b n) h f d", h=heads) for x in qkv.chunk(3, -1))
            out = F.scaled_dot_product_attention(*parts)
            return rearrange(out, "(b n) h f d -> b f n (h d)", b=len(qkv)).contiguous()

        def packed(shape: tuple[int, ...] = (b, f, n, 3 * width)) -> tuple[Tensor, ...]:
            return (random(*shape, dtype=dtype),)

        rows = float(b * f * n)
        label, versions = f"{b}x{f}x{n} {heads} heads", {"kernel": kernel, "plain": plain}
        yield Case("frame_attention", label, packed, versions, 8 * rows * width, 4 * rows * f * width)


def pixel_attention_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Attention over the pixels of a frame and over the text, by each of the library's kernels."""
    shapes = [
        (32, 1024, 1024, 5),
        (32, 1024, 77, 5),
        (32, 256, 256, 10),
        (32, 64, 64, 20),
        (2, 14400, 14400, 5),
    ]
    backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    for b, n, m, heads in shapes:
        width = heads * 64

        def tokens(b: int = b, n: int = n, m: int = m, width: int = width) -> tuple[Tensor, ...]:
            if n == m:
                return random(b, n, 3 * width, dtype=dtype).chunk(3, -1)
            return (random(b, n, width, dtype=dtype), *random(b, m, 2 * width, dtype=dtype).chunk(2, -1))

        def kernel(q: Tensor, k: Tensor, v: Tensor, heads: int = heads) -> Tensor:
            return attention(q, k, v, heads)

        def by(backend: SDPBackend, heads: int = heads) -> Version:
            def version(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                parts = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
                with sdpa_kernel(backend):
                    out = F.scaled_dot_product_attention(*parts)
                return rearrange(out, "b h n d -> b n (h d)")

            return version

        versions: dict[str, Version] = {name: by(backend) for name, backend in backends.items()}
        versions |= {"kernel": kernel, "plain": by(SDPBackend.EFFICIENT_ATTENTION)}
        label, moved = f"{b}x{n}x{m} {heads} heads", 4.0 * b * (n + m) * width
        yield Case("attention", label, tokens, versions, moved, 4.0 * b * n * m * width)


LEVELS = [(32768, 320), (8192, 640), (2048, 1280), (512, 1280), (460800, 320)]
"""Rows and channels of a step with guidance at 256 x 256, level by level, and of a 720p clip."""


def row_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Layer norms and gates."""
    for m, c in LEVELS:
        weight, bias = random(2, c, dtype=dtype)

        def rows(*widths: int, m: int = m) -> Callable[[], tuple[Tensor, ...]]:
            return lambda: tuple(random(m, width, dtype=dtype) for width in widths)

        def norm(x: Tensor, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            return layer_norm(x, weight, bias, 1e-5)

        def plain(x: Tensor, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            return F.layer_norm(x, weight.shape, weight, bias, 1e-5)

        def added(
            x: Tensor, y: Tensor, weight: Tensor = weight, bias: Tensor = bias
        ) -> tuple[Tensor, Tensor]:
            return add_layer_norm(x, y, weight, bias, 1e-5)

        size, label = 2.0 * m * c, f"{m}x{c}"
        yield Case("layer_norm", label, rows(c), {"kernel": norm, "plain": plain}, 2 * size)
        both = {"kernel": added, "plain": lambda x, y, p=plain: p(x + y)}
        yield Case("add_layer_norm", label, rows(c, c), both, 4 * size)
        yield Case(
            "geglu", f"{m}x{8 * c}", rows(8 * c), {"kernel": geglu, "plain": geglu_reference}, 12 * size
        )


def linear_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Products with a gate or a sum behind them; `table` is what the operation does now."""
    for m, c in LEVELS:
        for n, k in ((8 * c, c), (c, 4 * c), (c, c)):
            gated = n == 8 * c
            yield linear_case(m, n, k, gated, dtype)


def linear_case(m: int, n: int, k: int, gated: bool, dtype: torch.dtype) -> Case:
    """One product; without the tile of the table, ``kernel`` is that of :data:`TILES` that comes first."""
    weight, bias = random(n, k, dtype=dtype) * k**-0.5, random(n, dtype=dtype)
    tile = linear_tile(m, n, k, gated=gated) or next(t for t in TILES if n % t.n == 0)

    def inputs() -> tuple[Tensor, ...]:
        return (
            (random(m, k, dtype=dtype),) if gated else (random(m, k, dtype=dtype), random(m, n, dtype=dtype))
        )

    def with_tile(tile: Tile) -> Version:
        return lambda x, residual=None: linear_triton.linear(x, weight, bias, residual, tile)

    if gated:
        versions = {
            "table": lambda x: linear_geglu(x, weight, bias),
            "library": lambda x: geglu(F.linear(x, weight, bias)),
            "plain": lambda x: geglu_reference(F.linear(x, weight, bias)),
        }
    else:
        versions = {
            "table": lambda x, residual: linear_add(x, weight, bias, residual),
            "plain": lambda x, residual: residual + F.linear(x, weight, bias),
        }
    versions |= {"kernel": with_tile(tile)}
    if SWEEP:
        versions |= {named(tile): with_tile(tile) for tile in TILES if n % tile.n == 0}
    # half of a gated product is written; of the other all, and the residual read
    moved = 2.0 * (m * k + n * k + m * (n / 2 if gated else 2 * n))
    return Case(
        "linear_geglu" if gated else "linear_add", f"{m}x{n}x{k}", inputs, versions, moved, 2.0 * m * n * k
    )


def named(tile: Tile) -> str:
    """A tile as a version's name."""
    return f"{tile.m}x{tile.n}x{tile.k} w{tile.warps} s{tile.stages} p{tile.together}"


SWEEP = False
TILES = [
    Tile(m, n, k, warps=warps, stages=stages, together=together)
    for m, n, k, warps, stages, together in (
        (128, 256, 64, 8, 3, 1), (256, 128, 64, 8, 3, 1), (128, 128, 64, 8, 4, 1), (128, 128, 64, 4, 3, 2),
        (128, 64, 64, 4, 4, 2), (128, 64, 64, 4, 3, 3), (64, 128, 64, 4, 4, 2),
    )
]  # fmt: skip


def swept_layer_norms(dtype: torch.dtype) -> None:
    """Print the times of the layer norm for other sizes of its programs."""
    print("\nlayer norm: TILE -> us, best first")
    for case in row_cases(dtype):
        if "layer_norm" not in case.name:
            continue
        times = {}
        for tile in (1024, 2048, 4096, 8192):
            with patch.object(layer_norm_triton, "TILE", tile):
                times[tile] = microseconds(case.versions["kernel"], case.inputs, 7)
        best = sorted(times.items(), key=lambda item: item[1])
        print(f"{case.name:16} {case.shape:16} now {times[layer_norm_triton.TILE]:7.1f}  {best}")


def swept_norms(dtype: torch.dtype, only: str) -> None:
    """Print the times of group norms, alone and of parts, for other sizes of the programs that read rows twice."""
    print(
        "\ngroup norm, us, best first: channels of a block, numbers of a tile, warps, programs; numbers, programs"
    )
    table = group_norm_triton._sizes
    for case in chain(norm_cases(dtype), parts_cases(dtype)):
        if case.name not in ("group_norm", "parts") or only not in case.name:
            continue
        with patch.object(group_norm_triton, "_sizes", wraps=table) as asked:
            now = microseconds(case.versions["kernel"], case.inputs, 7)
        if asked.call_args is None:  # held whole
            continue
        chosen = table(*asked.call_args.args)

        def timed(sizes: group_norm_triton._Sizes, case: Case = case) -> float:
            with patch.object(group_norm_triton, "_sizes", return_value=sizes):
                return microseconds(case.versions["kernel"], case.inputs, 7)

        reads = {
            (widest, read, warps, readers): timed(
                replace(chosen, widest=widest, read=read, warps=warps, readers=readers)
            )
            for widest, (read, warps), readers in combinations((64, 128), READS, (264, 528, 1056))
        }
        writes = {
            (written, writers): timed(replace(chosen, written=written, writers=writers))
            for written, writers in combinations(
                (2048, 4096, 8192), sorted({528, 1056, 2112, 4224, chosen.writers})
            )
        }
        best = (sorted(times.items(), key=lambda item: item[1])[:4] for times in (reads, writes))
        told = "  |  ".join("  ".join(f"{k} {v:.1f}" for k, v in each) for each in best)
        print(f"{case.shape:28} now {now:7.1f}  {told}")


def compared(case: Case, device: Device) -> dict[str, Any]:
    """Times of all versions, after a check that they agree."""
    torch.cuda.empty_cache()
    arguments = case.inputs()
    expected = last(case.versions["plain"](*arguments)).double()
    times: dict[str, float] = {}
    for name, version in case.versions.items():
        try:
            error = (last(version(*arguments)).double() - expected).norm() / expected.norm()
        except (
            triton.runtime.errors.OutOfResources
        ) as problem:  # a tile of the sweep that this device cannot hold
            print(f"{case.name} {case.shape} {name}: {problem}")
            continue
        assert error < 2e-2, f"{case.name} {case.shape}: {name} differs by {float(error):.2g}"
        times[name] = microseconds(version, case.inputs)
    return {"name": case.name, "shape": case.shape, "floor": device.floor(case), "microseconds": times}


def main() -> None:
    """Measure, print a table, write the figures."""
    global SWEEP
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dtype, SWEEP = getattr(torch, options.dtype), options.sweep
    with torch.inference_mode():
        device = measured_device(dtype)
        print(f"copy {device.copy / 1e12:.2f} TB/s, product {device.product / 1e12:.0f} TFLOP/s")
        print(f"{'us':18} {'':28} {'floor':>8} {'kernel':>8} {'of it':>6} {'plain':>8}  others")
        rows = []
        for case in cases(dtype):
            if options.only not in case.name:
                continue
            row = compared(case, device)
            rows.append(row)
            times = dict(sorted(row["microseconds"].items(), key=lambda item: item[1]))
            kernel, plain = times.pop("kernel"), times.pop("plain")
            others = "  ".join(f"{name} {time:.1f}" for name, time in list(times.items())[:5])
            print(
                f"{row['name']:18} {row['shape']:28} {row['floor']:8.1f} {kernel:8.1f} "
                f"{row['floor'] / kernel:6.0%} {plain:8.1f}  {others}"
            )
        if SWEEP:
            swept_norms(dtype, options.only)
        if SWEEP and options.only in "layer_norm":
            swept_layer_norms(dtype)
    if options.out:
        result = {
            "date": datetime.date.today().isoformat(),
            "device": torch.cuda.get_device_name(),
            "versions": {"torch": torch.__version__, "triton": triton.__version__},
            "dtype": options.dtype,
            "speeds": asdict(device),
            "rows": rows,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
