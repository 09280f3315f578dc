"""The group norm's kernels, run by Triton's interpreter on the CPU, equal the plain reference in float64."""

import pytest

from interpreted import compiled, needs_triton, run

SCRIPT = """
from unittest.mock import patch

import torch
from kinescribe.ops import group_norm_triton as kernels
from kinescribe.ops.group_norm import group_norm_reference
from kinescribe.ops.parts import joined
from kinescribe.ops.temporal import windows

def check(shape, groups, *, shifts=0, silu=True, mean=0.0, first=0.0, dtype=torch.float32, bound=2e-7):
    b, c = shape[:2]
    x = torch.randn(shape) + mean
    x[:, :, 0, 0] += first
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, c).to(dtype)
    shift = torch.randn(shifts, c).to(dtype) if shifts else None
    out, expected = kernels.forward(x, shift, weight, bias, groups, 1e-5, silu), x.double()
    if shifts:
        expected = expected + shift.double().repeat_interleave(b // shifts, 0)[:, :, None, None]
    expected = group_norm_reference(expected, groups, weight.double(), bias.double(), 1e-5, silu=silu)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    error = (out.double() - expected).norm() / expected.norm()
    assert error < bound, (shape, float(error))

def check_windows(shape):
    x, weight, bias = torch.randn(shape), *torch.randn(2, shape[1])
    x = x.contiguous(memory_format=torch.channels_last)
    plain = kernels.forward(x, None, weight, bias, 4, 1e-5, True)
    for laid in (1, 2):
        assert torch.equal(kernels.forward(x, None, weight, bias, 4, 1e-5, True, laid), windows(plain, laid))

    # the interpreter's casts to 8 bits lose what is carried to the next power of two
    scale = plain.abs().max() / 400
    found = kernels.forward(x, None, weight, bias, 4, 1e-5, True, 0, scale)
    assert found.dtype == torch.float8_e4m3fn and found.is_contiguous(memory_format=torch.channels_last)
    apart = (found.float() * scale - plain).abs()
    assert (apart <= plain.abs() / 7 + scale / 64).float().mean() > 0.9

def check_parts(b, c, h, w, groups, *, beside=0, others=0, shifts=0, ahead=False, laid=0, dtype=torch.float32):
    x, y = torch.randn(b, c, h, w).to(dtype), torch.randn(others or b, beside or c, h, w).to(dtype)
    x, y = (part.contiguous(memory_format=torch.channels_last) for part in (x, y))
    waiting, coming = torch.randn(2, 1, c).to(dtype)
    shift = torch.randn(shifts, 2 * (c + beside)).to(dtype)[:, :c + beside] if shifts else None
    # rows of the shift lie further apart than they are long
    norm = *torch.randn(2, c + beside).to(dtype), groups, 1e-5, True, laid
    wanted = x.float() + y.float() + waiting.float()[:, :, None, None] if not beside else joined(x, y)
    wanted = (wanted + coming.float()[:, :, None, None] if ahead else wanted).to(dtype)
    whole, out = kernels.forward_of_parts(x, y, waiting, coming if ahead else None, bool(beside), shift, *norm)
    assert torch.equal(whole, wanted) and whole.is_contiguous(memory_format=torch.channels_last)
    expected = kernels.forward(wanted, shift, *norm).double()  # by programs of other sizes
    assert (out.double() - expected).norm() <= (1e-6 if dtype == torch.float32 else 1e-3) * expected.norm()
    with patch.object(kernels, "_sizes", return_value=kernels._sizes(whole.numel(), 0, laid)):  # and of the same
        out = kernels.forward_of_parts(x, y, waiting, coming if ahead else None, bool(beside), shift, *norm)[1]
        assert torch.equal(out, kernels.forward(wanted, shift, *norm))

torch.manual_seed(0)
# held whole: groups of 10, 15 and 5 channels; one number; a mean a hundred deviations away
check((2, 40, 3, 5), 4, silu=False)
check((4, 60, 4, 4), 4, shifts=2)
check((1, 8, 1, 1), 8)
check((2, 20, 3, 3), 4, shifts=2, mean=100.0, bound=2e-5)
check((1, 64, 24, 30), 8)  # no lane idle: 1024 x 32 numbers
for shape in ((2, 40, 3, 5), (1, 8, 1, 4), (1, 20, 2, 1)):
    check_windows(shape)
check_parts(2, 40, 3, 5, 4)
check_parts(4, 12, 3, 3, 4, beside=8, others=2, shifts=2)
# in chunks: ragged rows, groups in two blocks of channels, half precision
kernels.WHOLE = kernels.BY_FOUR_WARPS = 0
check((1, 40, 31, 9), 4)
check((2, 6, 2, 2), 1)
for shape in ((2, 40, 5, 31), (1, 8, 1, 4)):
    check_windows(shape)
check_parts(4, 20, 4, 5, 4, ahead=True, shifts=2, dtype=torch.float16)
check_parts(2, 20, 5, 13, 4, beside=12, others=1)
check_parts(2, 20, 4, 6, 4, laid=2)
check((4, 30, 12, 13), 3, shifts=2, mean=30.0, bound=1e-5)
check((1, 320, 5, 9), 32, shifts=1)  # blocks of 64 channels, groups of 10
check((2, 192, 7, 3), 4, mean=20.0, bound=1e-5)  # groups of 48
check((1, 160, 7, 3), 4)  # groups wider than blocks without an idle lane would be
check((1, 2500, 3, 2), 1, bound=1e-5)  # and than what a program reads at a time
assert kernels._parts(1 << 24, 1 << 20, 64)[1] <= 65535
check((1, 40, 128, 96), 4, first=100.0, bound=1e-4)  # the row that distances are taken from lies far from all others
# more chunks than are joined at a time
kernels._sizes = lambda *_: kernels._Sizes(64, read=256, warps=4, readers=10**6, written=512, writers=10**6)
check((1, 40, 31, 29), 4, mean=100.0, bound=1e-5)
check((1, 320, 31, 9), 32, mean=100.0, bound=1e-5)
check_parts(2, 128, 5, 13, 32, beside=64, others=1)
check((2, 24, 20, 21), 8, silu=False, dtype=torch.float16, bound=1e-3)
check((1, 64, 9, 9), 32, dtype=torch.bfloat16, bound=8e-3)
"""


@needs_triton
def test_kernels_equal_the_reference() -> None:
    run(SCRIPT)


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_the_generations_that_they_are_chosen_for() -> None:
    compiled("""
from kinescribe.ops import group_norm_triton as kernels

for channels, slots, held_slots in ((320, 8, 16), (1280, 8, 4), (128, 32, 32)):
    block, width = kernels._block(channels, 32, 128), kernels._width(channels, channels // 32, 128)
    groups = {"SIZE": channels // 32, "SLOTS": slots, "WIDTH": width}
    lanes = {"SIZE": channels // 32, "WIDTH": width, "ROWS": 4096 // width}
    held = {"SIZE": block.size, "TOGETHER": block.together, "SLOTS": held_slots, "WIDTH": block.width, "ROWS": 64}
    for parts in (0, 1, 2):
        build(kernels.norm_statistics, PARTS=parts, AHEAD=True, SHIFTED=False, SLOTS=slots, EARLY=False, **lanes)
    build(kernels.norm_join, warps=1, TOGETHER=kernels.JOINED, CHUNKS=64, EARLY=False, **groups)
    for laid in (0, 1, 2):
        flags = {"LAID": laid, "EIGHT": False, "SHIFTED": True, "SILU": True}
        build(kernels.norm_apply, EARLY=False, **flags, **lanes)
        build(kernels.norm_whole, warps=8, PARTS=laid, AHEAD=False, **flags, **held)
    flags, kinds = {**flags, "LAID": 0, "EIGHT": True}, {"out_ptr": "*fp8e4nv", "scale_ptr": "*fp32"}
    assert "e4m3x2" in build(kernels.norm_apply, generations=(90,), kinds=kinds, EARLY=True, **flags, **lanes)
    assert "e4m3x2" in build(
        kernels.norm_whole, warps=8, PARTS=0, AHEAD=False, generations=(90,), kinds=kinds, **flags, **held
    )

# whoever follows begins once all before has ended, and reads what was made of it after that
early = {"generations": (90,), "EARLY": True}
ptx = build(kernels.norm_statistics, PARTS=0, AHEAD=False, SHIFTED=False, SLOTS=8, **lanes, **early)
assert "griddepcontrol.launch_dependents" in ptx and "griddepcontrol.wait" not in ptx
ptx = build(kernels.norm_join, warps=1, TOGETHER=kernels.JOINED, CHUNKS=16, **groups, **early)
assert 0 < ptx.index("griddepcontrol.wait") < ptx.index("griddepcontrol.launch_dependents") < ptx.index("ld.global")
""")
