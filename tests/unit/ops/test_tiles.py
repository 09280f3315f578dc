"""Tiles of convolutions: boxes hold every pixel, parts share the factors, and none or the library is a choice too."""

from math import prod

import pytest

from kinescribe.ops.tiles import (
    FEWEST_ENDS,
    MOST_IDLE,
    PIXELS,
    Sizes,
    Taps,
    convolution_pays,
    convolution_tile,
    end_tile,
    enlarging_tile,
)

SHAPES = [
    ((32, 32, 32), (320, 3, 3, 960)), ((32, 8, 8), (1280, 3, 3, 1280)), ((32, 4, 4), (1280, 3, 3, 2560)),
    ((2, 16, 1024), (320, 3, 1, 320)), ((48, 40, 72), (320, 3, 3, 320)), ((48, 5, 9), (1280, 3, 3, 1280)),
    ((32, 11, 20), (1280, 3, 3, 1280)), ((2, 16, 16), (64, 3, 1, 64)),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("sizes", "taps"), SHAPES)
def test_what_a_tile_computes_fits_the_convolution(sizes: Sizes, taps: Taps, size: int) -> None:
    tile = convolution_tile(sizes, taps, size)
    assert tile is not None and prod(tile.box) == PIXELS
    boxes = prod(-(-size // side) for size, side in zip(sizes, tile.box, strict=True))
    assert boxes * PIXELS <= MOST_IDLE * prod(sizes)
    n, tall, wide, c = taps
    assert n % (tile.n + tile.beside) == 0 and c % tile.k == 0 and tall * wide * c // tile.k % tile.parts == 0


@pytest.mark.parametrize("o", [64, 256, 512, 640, 1280])
@pytest.mark.parametrize("sizes", [(32, 4, 4), (32, 16, 16), (48, 20, 36), (16, 64, 64)])
def test_no_tile_has_channels_of_two_sets(sizes: Sizes, o: int) -> None:
    tile = enlarging_tile(sizes, (4 * o, 2, 2, o), 2)
    assert tile is not None and o % (tile.n + tile.beside) == 0


@pytest.mark.parametrize(
    ("sizes", "c", "channels"),
    [
        ((32, 8, 8), 1280, 320), ((32, 16, 16), 640, 320), ((48, 20, 36), 640, 320), ((16, 64, 64), 512, 256),
        ((16, 128, 128), 256, 128), ((48, 5, 9), 1280, None),
    ],
)  # fmt: skip
def test_enlarging_tiles_are_wide_where_that_was_measured_to_be_quicker(
    sizes: Sizes, c: int, channels: int | None
) -> None:
    tile = enlarging_tile(sizes, (4 * c, 2, 2, c), 2)
    assert (None if tile is None else tile.n + tile.beside) == channels


def test_sets_narrower_than_a_tile_have_none() -> None:
    assert convolution_tile((32, 32, 32), (4 * 32, 2, 2, 64), 2) is not None
    assert enlarging_tile((32, 32, 32), (4 * 32, 2, 2, 64), 2) is None


def test_the_widths_of_the_family_go_320_channels_at_a_time_while_tiles_are_many() -> None:
    many, few = (convolution_tile((32, side, side), (1280, 3, 3, 1280), 1) for side in (8, 4))
    assert many is not None and few is not None
    assert (many.n + many.beside, few.n + few.beside) == (320, 128) and few.parts > many.parts > 1


@pytest.mark.parametrize(
    ("sizes", "taps"),
    [((1, 3, 3), (64, 3, 3, 64)), ((32, 32, 32), (48, 3, 3, 64)), ((32, 32, 32), (64, 3, 3, 48))],
)
def test_too_few_pixels_and_odd_widths_have_no_tile(sizes: Sizes, taps: Taps) -> None:
    assert convolution_tile(sizes, taps, 1) is None and not convolution_pays(sizes, taps)


@pytest.mark.parametrize(
    ("sizes", "taps", "pays"),
    [
        ((32, 32, 32), (320, 3, 3, 320), True), ((16, 32, 32), (320, 3, 3, 320), True),
        ((32, 16, 16), (640, 3, 3, 1280), True), ((32, 8, 8), (1280, 3, 3, 1280), False),
        ((32, 4, 4), (1280, 3, 3, 1280), True), ((48, 40, 72), (320, 3, 3, 320), False),
        ((48, 20, 36), (640, 3, 3, 640), False), ((48, 5, 9), (1280, 3, 3, 1280), True),
        ((2, 16, 256), (640, 3, 1, 640), False),
        ((2, 16, 16), (1280, 3, 1, 1280), False),
    ],
)  # fmt: skip
def test_in_sixteen_bits_ours_are_chosen_where_they_were_measured_to_be_faster(
    sizes: Sizes, taps: Taps, pays: bool
) -> None:
    assert convolution_pays(sizes, taps) == pays


@pytest.mark.parametrize(("m", "n", "tall"), [(32768, 320, 128), (8192, 640, 128), (2048, 1280, 64)])
def test_the_end_of_a_transformer_has_as_tall_a_tile_as_leaves_enough_of_them(
    m: int, n: int, tall: int
) -> None:
    tile = end_tile(m, n)
    assert tile is not None and tile.m == tall and n % (tile.n + tile.beside) == 0
    assert -(-m // tile.m) * n // (tile.n + tile.beside) >= FEWEST_ENDS


@pytest.mark.parametrize(("m", "n"), [(512, 1280), (1, 320), (32768, 512), (32768, 96)])
def test_few_rows_and_odd_widths_end_in_sixteen_bits(m: int, n: int) -> None:
    assert end_tile(m, n) is None
