import pytest
import torch
from torch import Tensor

from interpreted import compiled, needs_triton
from kinescribe.ops import upsample
from kinescribe.ops.select import standing_for
from kinescribe.ops.tiles import enlarging_tile
from kinescribe.ops.upsample import UpsampleConv, phases, upsample_conv_by_phase, upsample_conv_reference
from kinescribe.perf.count import counted


def parts(n: int, c: int, o: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(n + c + h)
    shapes = ((n, c, h, w), (o, c, 3, 3), (o,))
    x, weight, bias = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    return x, weight, bias


def filled(weight: Tensor, bias: Tensor) -> UpsampleConv:
    module = UpsampleConv(len(weight)).to(weight.dtype).requires_grad_(False)
    module.load_state_dict({"weight": weight, "bias": bias})
    return module


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 5), (4, 3), (8, 8)])
@pytest.mark.parametrize(("c", "o"), [(3, 3), (4, 6), (5, 2)])
def test_by_phase_it_is_the_plain_enlargement_and_convolution(c: int, o: int, h: int, w: int) -> None:
    x, weight, bias = parts(2, c, o, h, w)
    wanted = upsample_conv_reference(x, weight, bias)
    assert wanted.shape == (2, o, 2 * h, 2 * w)
    torch.testing.assert_close(upsample_conv_by_phase(x, phases(weight), bias), wanted)


def test_the_result_lies_channels_last() -> None:
    x, weight, bias = parts(2, 4, 6, 4, 4)
    out = upsample_conv_by_phase(x.contiguous(memory_format=torch.channels_last), phases(weight), bias)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_the_module_is_the_convolution_and_enlarges_first_if_asked() -> None:
    x, weight, bias = parts(2, 4, 4, 3, 5)
    module = filled(weight, bias)
    torch.testing.assert_close(module(x), torch.nn.functional.conv2d(x, weight, bias, padding=1))
    torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, weight, bias))


@torch.inference_mode()
def test_kept_phases_follow_the_weight_in_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    monkeypatch.setattr(upsample, "phases_pay", lambda *_: True)
    monkeypatch.setattr(upsample, "phases", lambda weight: made.append(phases(weight)) or made[-1])
    x, weight, bias = parts(2, 4, 4, 3, 5)
    with torch.inference_mode(False):
        module = filled(weight, bias)
    module.keep()
    for _ in range(2):
        module.keep()
        torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, weight, bias))
    assert len(made) == 1
    kept = made[0]
    module.weight.copy_(2 * weight)
    module.keep()
    torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, 2 * weight, bias))
    assert len(made) == 2
    torch.testing.assert_close(kept, phases(2 * weight))
    module.weight.copy_(weight)  # and nobody keeps them: what is kept is of another weight
    torch.testing.assert_close(module.enlarged(x), upsample_conv_reference(x, weight, bias))
    assert len(made) == 3
    module.release()
    module.enlarged(x)
    assert len(made) == 4


def test_kept_phases_leave_with_the_weight() -> None:
    _, weight, bias = parts(2, 4, 4, 3, 5)
    module = filled(weight, bias)
    assert module.kept_at == ()
    module.keep()
    assert all(module.kept_at)
    assert module.kept() is not None
    module.weight.data.mul_(1)  # outside of inference, too
    with torch.no_grad():
        module.weight.mul_(2)
        module.keep()
    module.to(torch.float32)
    assert module.kept_at == ()


def test_kernels_are_summed_before_they_are_rounded() -> None:
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1:, 1:] = torch.tensor([[1.0, 2**-9], [2**-9, 2**-9]])
    summed = phases(weight.bfloat16())[0, 0]
    assert summed.dtype == torch.bfloat16
    assert float(summed[1, 1]) == float(torch.tensor(1 + 3 * 2**-9).bfloat16()) != 1.0


def meta(channels: int, *sizes: int, dtype: torch.dtype = torch.float16) -> tuple[UpsampleConv, Tensor]:
    with torch.device("meta"):
        return UpsampleConv(channels).to(dtype), torch.empty(sizes[0], channels, *sizes[1:], dtype=dtype)


@needs_triton
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
# of 1,280 channels by 16 pixels the sums are made in parts
@pytest.mark.parametrize(("channels", "sizes"), [(1280, (32, 4, 4)), (512, (16, 32, 32)), (64, (6, 8, 8))])
def test_on_units_of_sm_90_a_product_of_taps_enlarges_and_nothing_else_is_made(
    channels: int, sizes: tuple[int, int, int], dtype: torch.dtype
) -> None:
    module, x = meta(channels, *sizes, dtype=dtype)
    module.keep()
    n, h, w = sizes
    with standing_for((9, 0)):
        count, out = counted(lambda: module.enlarged(x)), module.enlarged(x)
    assert out.shape == (n, channels, 2 * h, 2 * w) and out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    tile = enlarging_tile(sizes, (4 * channels, 2, 2, channels), 2)
    assert tile is not None and (tile.parts > 1) == (channels == 1280)
    assert count.flops == 0  # no convolution of the library's
    sums = 4 * tile.parts * out.numel() if tile.parts > 1 else 0
    assert count.peak == out.nbytes + sums


@needs_triton
@torch.no_grad()
def test_of_small_pictures_no_phases_are_made_for_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = meta(1280, 32, 4, 4)
    monkeypatch.setattr(module, "made", lambda: pytest.fail("made"))
    with standing_for((9, 0)):
        assert counted(lambda: module.enlarged(x)).flops > 0


@needs_triton
@pytest.mark.parametrize(
    ("capability", "channels", "dtype", "wanted"),
    [
        ((9, 0), 64, torch.float16, ["enlarge"]), ((8, 0), 64, torch.float16, ["place"]),
        ((9, 0), 48, torch.float16, ["place"]), ((9, 0), 64, torch.float32, []),
    ],
)  # fmt: skip
@torch.inference_mode()
def test_other_gpus_and_widths_have_the_librarys_convolution(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    channels: int,
    dtype: torch.dtype,
    wanted: list[str],
) -> None:
    from kinescribe.ops.taps_triton import enlarge_op
    from kinescribe.ops.upsample_triton import place_op

    asked: list[str] = []
    for name, operation in (("enlarge", enlarge_op), ("place", place_op)):
        answer = operation.without_numbers
        monkeypatch.setattr(
            operation, "without_numbers", lambda *x, n=name, a=answer: asked.append(n) or a(*x)
        )
    with standing_for(capability):
        module, x = meta(channels, 8, 16, 16, dtype=dtype)
        assert module.enlarged(x).shape == (8, channels, 32, 32)
    assert asked == wanted


def test_where_gradients_are_wanted_no_product_enlarges() -> None:
    module, x = meta(64, 8, 16, 16)
    with standing_for((9, 0)):
        assert module.enlarged(x).requires_grad


@pytest.mark.slow
@needs_triton
def test_the_kernel_compiles_for_the_generations_that_it_is_chosen_for() -> None:
    compiled("""
from kinescribe.ops import upsample_triton as kernels

for biased in (False, True):
    build(kernels._place, BIASED=biased, PIXELS=kernels.PIXELS, CHANNELS=kernels.CHANNELS)
""")
