"""Fast operations on a GPU against a float64 reference."""

from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from conftest import needs_taps
from kinescribe.ops.attention import (
    attention,
    attention_by_products,
    attention_reference,
    frame_attention,
    frame_attention_reference,
)
from kinescribe.ops.convolution import add, convolve
from kinescribe.ops.group_norm import (
    GroupNorm,
    group_norm,
    group_norm_by_channel,
    group_norm_reference,
)
from kinescribe.ops.layer_norm import add_layer_norm, layer_norm, layer_norm_reference
from kinescribe.ops.linear import (
    geglu,
    geglu_reference,
    linear_add,
    linear_geglu,
    linear_onto,
)
from kinescribe.ops.normed_convolution import normed_convolution
from kinescribe.ops.parts import Parts, joined, side_by_side, summed
from kinescribe.ops.select import frame_attention_version, kernels_serve, phases_pay, wide_head_pays
from kinescribe.ops.temporal import TemporalConv
from kinescribe.ops.tiles import ADDED, GATED, linear_tile
from kinescribe.ops.upsample import UpsampleConv, phases, upsample_conv_by_phase, upsample_conv_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


BOUNDS = {torch.float16: 1e-3, torch.bfloat16: 8e-3}
HALF = pytest.mark.parametrize("dtype", list(BOUNDS))
# Frames and clips of every level of the UNet, concatenated inputs, ragged rows, frames of the autoencoder.
NORMED = pytest.mark.parametrize(
    "shape",
    [
        (32, 320, 32, 32), (2, 320, 16, 1024), (4, 960, 37, 5), (32, 640, 16, 16), (32, 1920, 8, 8), (2, 1280, 16, 16),
        (3, 2560, 4, 4), (1, 128, 200, 333), (1, 512, 90, 160),
    ],
)  # fmt: skip


def drawn(*shape: int, dtype: torch.dtype, mean: float = 0.0) -> torch.Tensor:
    """Random numbers, beside freed memory of the same size full of NaN, which results are likely to get."""
    torch.full(shape, torch.nan, device="cuda", dtype=dtype)
    return (torch.randn(shape, device="cuda") + mean).to(dtype)


def pictures(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return drawn(*shape, dtype=dtype, mean=0.5).contiguous(memory_format=torch.channels_last)


def relative(mine: torch.Tensor, reference: torch.Tensor) -> float:
    return float((mine.double().to(reference.device) - reference).norm() / reference.norm())


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


@HALF
@NORMED
@pytest.mark.parametrize("shifted", [False, True])
@torch.inference_mode()
def test_group_norm_kernels(shape: tuple[int, ...], shifted: bool, dtype: torch.dtype) -> None:
    x, (weight, bias) = pictures(*shape, dtype=dtype), drawn(2, shape[1], dtype=dtype)
    repeats = 2 if shape[0] % 2 == 0 else 1
    shift = drawn(shape[0] // repeats, shape[1], dtype=dtype) if shifted else None
    assert kernels_serve(x, weight, bias, shift)
    out = group_norm(x, 32, weight, bias, 1e-5, silu=shifted, shift=shift)
    exact = x.double()
    if shift is not None:
        exact = exact + shift.double().repeat_interleave(repeats, 0)[:, :, None, None]
    expected = group_norm_reference(exact, 32, weight.double(), bias.double(), 1e-5, silu=shifted)
    assert relative(out, expected) < BOUNDS[dtype]
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, group_norm(x, 32, weight, bias, 1e-5, silu=shifted, shift=shift))


@HALF
@pytest.mark.parametrize(
    ("shape", "beside", "others"),
    [
        ((32, 320, 32, 32), 0, 0), ((2, 640, 16, 256), 0, 0), ((32, 1280, 4, 4), 0, 0), ((1, 128, 256, 256), 0, 0),
        ((32, 320, 32, 32), 640, 16), ((32, 320, 32, 32), 320, 32), ((32, 1280, 8, 8), 640, 16), ((6, 96, 7, 9), 32, 2),
    ],
)  # fmt: skip
@torch.inference_mode()
def test_parts_become_the_sum_or_stand_side_by_side_in_their_norm(
    shape: tuple[int, ...], beside: int, others: int, dtype: torch.dtype
) -> None:
    b, c, h, w = shape
    x = pictures(*shape, dtype=dtype)
    y = pictures(others or b, beside or c, h, w, dtype=dtype)
    waiting, ahead = drawn(2, 1, c, dtype=dtype)
    norm = GroupNorm(32, c + beside, eps=1e-5, silu=True).eval().to("cuda", dtype)
    shift = drawn(1, 2 * (c + beside), dtype=dtype)[:, : c + beside]  # rows of it lie further apart
    wanted = joined(x, y) if beside else add(x, y, waiting, ahead)
    stream = side_by_side(x, y) if beside else summed(x, y, waiting, ahead)
    assert isinstance(stream, Parts)
    found, normed = norm.reading(stream, shift)
    assert torch.equal(found, wanted) and found.is_contiguous(memory_format=torch.channels_last)
    exact = wanted.double() + shift.double().repeat_interleave(b // len(shift), 0)[:, :, None, None]
    exact = group_norm_reference(exact, 32, norm.weight.double(), norm.bias.double(), 1e-5, silu=True)
    assert relative(normed, exact) < BOUNDS[dtype]
    from kinescribe.ops import group_norm_triton

    # by programs of the same sizes, the same bits
    sizes = group_norm_triton._sizes(wanted.numel(), 0, 0)
    with patch.object(group_norm_triton, "_sizes", return_value=sizes):
        stream = side_by_side(x, y) if beside else summed(x, y, waiting, ahead)
        assert torch.equal(norm.reading(stream, shift)[1], norm(wanted, shift))


@torch.inference_mode()
def test_group_norm_kernels_keep_a_far_mean_apart() -> None:
    x = drawn(1, 320, 64, 64, dtype=torch.float16).mul_(0.1).add_(100)
    x = x.contiguous(memory_format=torch.channels_last)
    one, zero = torch.ones(320, device="cuda").half(), torch.zeros(320, device="cuda").half()
    expected = group_norm_reference(x.double(), 32, one.double(), zero.double(), 1e-5, silu=False)
    assert relative(group_norm(x, 32, one, zero, 1e-5, silu=False), expected) < 1e-3


@HALF
@pytest.mark.parametrize("frames", [5, 16, 32, 64])
@torch.inference_mode()
def test_packed_frame_attention_reads_in_place(frames: int, dtype: torch.dtype) -> None:
    qkv = drawn(2, frames, 70, 3 * 5 * 64, dtype=dtype)
    expected = frame_attention_reference(*qkv.double().chunk(3, -1), 5)
    assert relative(frame_attention(*qkv.chunk(3, -1), 5), expected) < BOUNDS[dtype]


@HALF
@pytest.mark.parametrize(("rows", "width"), [(7, 64), (4100, 320), (1000, 640), (333, 1280)])
@torch.inference_mode()
def test_layer_norm_kernel(rows: int, width: int, dtype: torch.dtype) -> None:
    x, y, (weight, bias) = (
        *(drawn(rows, width, dtype=dtype, mean=1) for _ in "xy"),
        drawn(2, width, dtype=dtype),
    )
    total, out = add_layer_norm(x, y, weight, bias, 1e-5)
    assert torch.equal(total, x + y)
    for mine, source in ((out, x + y), (layer_norm(x, weight, bias, 1e-5), x)):
        expected = layer_norm_reference(source.double(), weight.double(), bias.double(), 1e-5)
        assert relative(mine, expected) < BOUNDS[dtype]


@HALF
@torch.inference_mode()
def test_geglu_kernel(dtype: torch.dtype) -> None:
    for rows, width in ((70000, 64), (1000, 1280), (3, 300)):
        x = drawn(rows, 2 * width, dtype=dtype).mul_(3)
        assert relative(geglu(x), geglu_reference(x.double())) < BOUNDS[dtype]


@HALF
@pytest.mark.parametrize("m", [16384, 16399])
@pytest.mark.parametrize("width", [320, 512, 640, 1280])
@torch.inference_mode()
def test_linear_kernels(width: int, m: int, dtype: torch.dtype) -> None:
    from kinescribe.ops import linear_triton

    for n, k in ((8 * width, width), (width, 4 * width), (width, width)):
        x, weight = drawn(m, k, dtype=dtype), drawn(n, k, dtype=dtype).mul_(k**-0.5)
        bias, residual = drawn(n, dtype=dtype), drawn(m, n, dtype=dtype)
        exact = F.linear(x.double(), weight.double(), bias.double())
        gated, added = geglu_reference(exact), exact + residual
        assert relative(linear_geglu(x, weight, bias), gated) < BOUNDS[dtype]
        assert relative(linear_add(x, weight, bias, residual), added) < BOUNDS[dtype]
        for tile in (GATED, ADDED):
            if n % tile.n == 0:
                assert relative(linear_triton.linear(x, weight, bias, None, tile), gated) < BOUNDS[dtype]
                assert relative(linear_triton.linear(x, weight, bias, residual, tile), added) < BOUNDS[dtype]


def test_the_table_gives_the_large_models_the_kernels() -> None:
    assert linear_tile(32768, 320, 320, gated=False) and linear_tile(2048, 10240, 1280, gated=True)


@torch.inference_mode()
def test_compilers_are_told_the_truth_about_the_operations() -> None:
    from kinescribe.ops import (
        convolution_triton,
        frame_attention_triton,
        group_norm_triton,
        layer_norm_triton,
        linear_fp8_triton,
        linear_triton,
        taps_triton,
        upsample_triton,
    )

    half = torch.float16
    x, rows = pictures(2, 64, 8, 8, dtype=half), drawn(1 << 15, 512, dtype=half)
    one, (first, second) = drawn(512, dtype=half), drawn(2, 64, dtype=half)
    norm = first, second, 32, 1e-5, True
    weight, wide, gates = (
        drawn(512, 512, dtype=half),
        drawn(1 << 12, 1024, dtype=half),
        drawn(2048, dtype=half),
    )
    clip = drawn(1, 16, 6, 64, dtype=half)
    checked = {
        group_norm_triton.group_norm_op: (x, None, *norm, 0, torch.ones((), device="cuda")),
        group_norm_triton.group_norm_of_parts_op: (x, x.clone(), first[None], None, False, None, *norm),
        upsample_triton.place_op: (x, None),
        convolution_triton.add_biased_op: (x, x.clone(), first[None]),
        layer_norm_triton.layer_norm_op: (rows, one, one, 1e-5),
        layer_norm_triton.add_layer_norm_op: (rows, rows.clone(), one, one, 1e-5, one, one.clone()),
        linear_triton.geglu_op: (rows,),
        linear_triton.linear_geglu_op: (wide, drawn(2048, 1024, dtype=half), gates),
        linear_triton.linear_add_op: (rows, weight, one, rows.clone()),
        linear_fp8_triton.quantise_rows_op: (rows,),
        frame_attention_triton.frame_attention_op: (clip, clip.clone(), clip.clone(), 1),
    }
    if torch.cuda.get_device_capability()[0] == 9:
        taps = drawn(64, 3, 3, 64, dtype=half)
        checked[taps_triton.convolve_op] = (x, taps, half, None, x.clone(), first[None], None)
        checked[taps_triton.enlarge_op] = (x, drawn(256, 2, 2, 64, dtype=half), first)
    for operation, arguments in checked.items():
        torch.library.opcheck(operation.known, arguments, test_utils=("test_schema", "test_faketensor"))


@HALF
@pytest.mark.parametrize(("rows", "width"), [(32768, 320), (512, 1280)])
@torch.inference_mode()
def test_sums_and_gated_products_are_written_into_wider_rows(
    rows: int, width: int, dtype: torch.dtype
) -> None:
    x, y = drawn(2, rows // 2, width, dtype=dtype), drawn(2, rows // 2, width, dtype=dtype)
    weight, bias = drawn(width, dtype=dtype), drawn(width, dtype=dtype)
    up, up_bias = drawn(8 * width, width, dtype=dtype) / width**0.5, drawn(8 * width, dtype=dtype)
    wide = torch.full((2, rows // 2, 5 * width), torch.nan, device="cuda", dtype=dtype)
    total, normed = add_layer_norm(x, y, weight, bias, 1e-5, waiting=bias)
    into, same = add_layer_norm(x, y, weight, bias, 1e-5, waiting=bias, into=wide[..., :width])
    assert into.data_ptr() == wide.data_ptr()
    linear_geglu(normed, up, up_bias, wide[..., width:])
    assert torch.equal(same, normed) and torch.equal(wide[..., :width], total)
    assert torch.equal(wide[..., width:], linear_geglu(normed, up, up_bias))


@torch.inference_mode()
def test_kernels_run_inside_a_graph() -> None:
    x, (weight, bias) = pictures(2, 320, 16, 256, dtype=torch.float16), drawn(2, 320, dtype=torch.float16)
    expected = group_norm(x, 32, weight, bias, 1e-5, silu=True)
    kept = torch.zeros_like(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = group_norm(kept, 32, weight, bias, 1e-5, silu=True)
    kept.copy_(x)
    graph.replay()
    assert torch.equal(out, expected)


@HALF
@pytest.mark.parametrize(
    ("n", "m", "heads", "d"), [(1024, 1024, 5, 64), (256, 77, 10, 64), (16, 16, 20, 64), (900, 900, 1, 512)]
)
@torch.inference_mode()
def test_attention_in_the_order_of_speed(n: int, m: int, heads: int, d: int, dtype: torch.dtype) -> None:
    q, k, v = (drawn(2, count, heads * d, dtype=dtype) for count in (n, m, m))
    exact = attention_reference(q.double(), k.double(), v.double(), heads)
    assert relative(attention(q, k, v, heads), exact) < 2 * BOUNDS[dtype]


# A mean of 12 makes all scores 512 * 144 and more, which float16 does not hold.
@HALF
@pytest.mark.parametrize("mean", [0, 12])
@pytest.mark.parametrize(("b", "n", "m"), [(16, 1024, 1024), (1, 4300, 4300), (2, 2049, 77), (3, 33, 1001)])
@torch.inference_mode()
def test_attention_of_a_wide_head_by_products(
    b: int, n: int, m: int, mean: float, dtype: torch.dtype
) -> None:
    q, k = drawn(b, n, 512, dtype=dtype, mean=mean), drawn(b, m, 512, dtype=dtype, mean=mean)
    v = drawn(b, m, 512, dtype=dtype)
    exact = attention_reference(q.double(), k.double(), v.double(), 1)
    found = attention_by_products(q, k, v)
    assert relative(found, exact) < 2 * BOUNDS[dtype]
    assert wide_head_pays(q, 1) and torch.equal(attention(q, k, v, 1), found)


@HALF
@pytest.mark.parametrize(("c", "h", "w"), [(640, 16, 16), (512, 64, 64), (128, 90, 33)])
@torch.inference_mode()
def test_enlargement_by_phase(c: int, h: int, w: int, dtype: torch.dtype) -> None:
    x, weight = pictures(8, c, h, w, dtype=dtype), drawn(c, c, 3, 3, dtype=dtype).mul_((9 * c) ** -0.5)
    bias = drawn(c, dtype=dtype)
    exact = upsample_conv_reference(x.double(), weight.double(), bias.double())
    assert phases_pay(x, weight)
    assert relative(upsample_conv_by_phase(x, phases(weight), bias), exact) < 2 * BOUNDS[dtype]


@HALF
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("n", "c", "h", "w"),
    [
        (32, 1280, 4, 4), (32, 1280, 8, 8), (32, 640, 16, 16), (5, 64, 7, 16), (48, 1280, 10, 18), (48, 640, 20, 36),
        (16, 512, 32, 32), (2, 512, 64, 64), (2, 256, 128, 128), (9, 64, 8, 7),
    ],
)  # fmt: skip
@needs_taps
@torch.inference_mode()
def test_enlargement_as_a_product_of_taps(
    n: int, c: int, h: int, w: int, biased: bool, dtype: torch.dtype
) -> None:
    from kinescribe.ops.taps_triton import enlarge_op

    x, weight = pictures(n, c, h, w, dtype=dtype), drawn(c, c, 3, 3, dtype=dtype).mul_((9 * c) ** -0.5)
    bias = drawn(c, dtype=dtype) if biased else None
    exact = upsample_conv_reference(x.float(), weight.float(), None if bias is None else bias.float())
    kernels = phases(weight)
    found = enlarge_op(x, kernels.permute(0, 2, 3, 1), bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert relative(found, exact) < 2 * BOUNDS[dtype]
    assert torch.equal(found, upsample_conv_by_phase(x, kernels, bias))


@needs_taps
@torch.no_grad()
def test_small_pictures_are_enlarged_by_the_product_where_phases_are_kept() -> None:
    module = UpsampleConv(1280).to("cuda", torch.float16)
    x = pictures(32, 1280, 4, 4, dtype=torch.float16)
    by_product = upsample_conv_by_phase(x, phases(module.weight), module.bias)
    assert not phases_pay(x, module.weight) and not torch.equal(module.enlarged(x), by_product)
    module.keep()
    assert torch.equal(module.enlarged(x), by_product)


@HALF
@pytest.mark.parametrize(
    ("sizes", "o"),
    [
        ((32, 320, 32, 32), 320),
        ((16, 960, 32, 32), 320),
        ((32, 1280, 16, 16), 640),
        ((32, 2560, 4, 4), 1280),
        ((48, 1280, 5, 9), 1280),
        ((32, 320, 88, 160), 320),
    ],
)
@needs_taps
@torch.inference_mode()
def test_a_convolution_of_a_norm_as_a_product_of_taps(
    sizes: tuple[int, int, int, int], o: int, dtype: torch.dtype
) -> None:
    c = sizes[1]
    norm = GroupNorm(32, c, eps=1e-5, silu=True).eval().to("cuda", dtype)
    x, shift = pictures(*sizes, dtype=dtype), drawn(1, c, dtype=dtype)
    kernel = drawn(o, c, 3, 3, dtype=dtype).mul_((9 * c) ** -0.5)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    stream, bias, ahead = pictures(sizes[0], o, *sizes[2:], dtype=dtype), *drawn(2, 1, o, dtype=dtype)
    exact = F.conv2d(norm(x, shift).float(), kernel.float(), padding=1)
    _, found = normed_convolution(norm, x, shift, kernel) or (None, None)
    _, again = normed_convolution(norm, x, shift, kernel) or (None, None)
    assert found is not None and found.is_contiguous(memory_format=torch.channels_last)
    assert relative(found, exact) < 2 * BOUNDS[dtype]
    _, total = normed_convolution(norm, x, shift, kernel, lambda: (stream, bias, ahead)) or (None, None)
    assert total is not None
    assert relative(total, exact + stream + (bias + ahead)[:, :, None, None].float()) < 2 * BOUNDS[dtype]
    assert again is not None and torch.equal(found, again)


@HALF
@pytest.mark.parametrize(("c", "f", "p"), [(320, 16, 1024), (640, 16, 256), (1280, 16, 64), (320, 5, 333)])
@torch.inference_mode()
def test_a_temporal_convolution_as_a_product_of_windows(c: int, f: int, p: int, dtype: torch.dtype) -> None:
    norm = GroupNorm(32, c, eps=1e-5, silu=True).to("cuda", dtype)
    conv = TemporalConv(c).to("cuda", dtype)
    x, waiting = pictures(2, c, f, p, dtype=dtype), drawn(1, c, dtype=dtype)
    normed = group_norm_reference(
        (x + waiting[:, :, None, None]).double(),
        32,
        norm.weight.double(),
        norm.bias.double(),
        1e-5,
        silu=True,
    )
    exact = F.conv2d(normed, conv.weight.double(), padding=(1, 0))
    for laid in (1, 2):
        assert relative(conv.over(norm.reading(x, waiting, laid=laid)[1]), exact) < 2 * BOUNDS[dtype]


@HALF
@torch.inference_mode()
def test_a_product_that_is_added_where_it_lies(dtype: torch.dtype) -> None:
    stream, x = drawn(2, 500, 320, dtype=dtype), drawn(2, 500, 1280, dtype=dtype)
    weight = drawn(320, 1280, dtype=dtype).mul_(1280**-0.5)
    exact = stream.double() + F.linear(x.double(), weight.double())
    memory = stream.data_ptr()
    found = linear_onto(stream, x, weight)
    assert relative(found, exact) < BOUNDS[dtype] and found.data_ptr() == memory


@HALF
@torch.inference_mode()
def test_a_bias_that_waits(dtype: torch.dtype) -> None:
    conv = torch.nn.Conv2d(320, 640, 3, padding=1, device="cuda", dtype=dtype)
    x, stream = pictures(4, 320, 33, 18, dtype=dtype), pictures(4, 640, 33, 18, dtype=dtype)
    out, waiting = convolve(x, conv)
    exact = stream.double() + conv.double()(x.double())
    assert waiting is not None
    assert relative(add(stream, out, waiting.to(dtype)), exact) < BOUNDS[dtype]
