import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.errors import KinescribeWarning, OptionError
from kinescribe.media import images, source
from kinescribe.media.images import read_image


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 6, y * 10, (x + y) * 3], -1).astype(np.uint8)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colours: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(autouse=True)
def strict_warnings() -> None:
    warnings.simplefilter("error")


def test_every_usual_form_gives_the_same_picture(tmp_path: Path) -> None:
    wanted = gradient()
    picture = Image.fromarray(wanted)
    forms = [
        picture, wanted, wanted[None], wanted.astype(np.float32) / 255, wanted.astype(np.float64) / 255,
        wanted.astype(np.uint16) * 257, torch.from_numpy(wanted), torch.from_numpy(wanted).float() / 255,
        np.dstack([wanted, np.full(wanted.shape[:2], 255, np.uint8)]), picture.convert("RGBA"),
        *(saved(picture, kind) for kind in ("PNG", "BMP", "TIFF")), saved(picture, "WEBP", lossless=True),
    ]  # fmt: skip
    for kind in ("PNG", "TIFF"):
        (tmp_path / f"{kind}.mp4").write_bytes(saved(picture, kind))  # the name does not choose the reader
        forms += [tmp_path / f"{kind}.mp4", str(tmp_path / f"{kind}.mp4")]
    for form in forms:
        image = read_image(form)
        assert np.array_equal(image, wanted) and image.dtype == np.uint8 and image.flags.c_contiguous


def test_reading_does_not_change_what_was_given() -> None:
    array, picture = gradient(), Image.fromarray(gradient())
    read_image(array)[:] = 0
    read_image(picture)[:] = 0
    assert np.array_equal(array, gradient()) and np.array_equal(np.asarray(picture), gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_turns_a_picture_upright(kind: str, orientation: int) -> None:
    stored = np.kron(gradient(3, 5) * 6, np.ones((8, 8, 1), np.uint8)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = saved(Image.fromarray(stored), kind, exif=exif, **options)
    quarter = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}[orientation]
    wanted = np.rot90(stored, quarter)
    if orientation in (2, 4, 5, 7):
        wanted = wanted[:, ::-1]
    for given in (data, Image.open(io.BytesIO(data))):
        image = read_image(given)
        assert image.shape == wanted.shape
        assert np.abs(image.astype(int) - wanted).max() <= (12 if kind == "JPEG" else 0)


def test_a_broken_exif_block_leaves_the_picture_as_stored() -> None:
    data = saved(Image.fromarray(gradient()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(read_image(data), gradient())


def test_transparent_parts_become_white() -> None:
    clear = np.dstack([gradient(), np.zeros((24, 40), np.uint8)])
    half = np.dstack([np.zeros((24, 40, 3), np.uint8), np.full((24, 40), 128, np.uint8)])
    palette = Image.new("P", (40, 24))
    palette.putpalette([255, 0, 0] * 256)
    grey = Image.new("LA", (40, 24), (10, 0))
    hidden = [
        clear, Image.fromarray(clear), saved(Image.fromarray(clear), "WEBP", lossless=True), grey,
        saved(palette, "PNG", transparency=0), saved(palette, "GIF", transparency=0), saved(grey, "PNG"),
        saved(Image.new("RGB", (40, 24), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
    ]  # fmt: skip
    for form in hidden:
        assert (read_image(form) == 255).all()
    for form in (half, Image.fromarray(half), half / 255):
        assert (read_image(form) == 127).all()


def test_16_bits_are_narrowed_and_not_cut() -> None:
    grey = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    wanted = np.repeat(np.rint(grey / 257).astype(np.uint8)[..., None], 3, -1)
    deep = Image.fromarray(grey)
    wide = Image.fromarray(grey.astype(np.int32))
    unit = Image.fromarray((grey / 65535).astype(np.float32))
    for form in (grey, deep, wide, unit, *(saved(p, "TIFF") for p in (deep, wide, unit)), saved(deep, "PNG")):
        assert np.array_equal(read_image(form), wanted)
    colours = gradient().astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    assert np.array_equal(read_image(png(40, 24, 16, 2, rows)), gradient())


def test_grey_palette_black_and_white_and_inks_become_rgb() -> None:
    grey = gradient()[..., 0]
    for form in (
        grey,
        grey[..., None],
        Image.fromarray(grey),
        saved(Image.fromarray(grey), "JPEG", quality=100),
    ):
        assert np.abs(read_image(form).astype(int) - grey[..., None]).max() <= 2
    assert (read_image(saved(Image.new("1", (40, 24), 1), "PNG")) == 255).all()
    palette = Image.fromarray(gradient()).quantize(16)
    assert np.array_equal(read_image(saved(palette, "GIF")), np.asarray(palette.convert("RGB")))
    for kind in ("JPEG", "TIFF"):
        image = read_image(saved(Image.new("CMYK", (40, 24), (255, 0, 0, 0)), kind))
        assert np.abs(image.astype(int) - (0, 255, 255)).max() <= 3


def test_of_several_pictures_the_first_is_used_and_said_once(tmp_path: Path) -> None:
    two = [Image.fromarray(gradient()), Image.fromarray(gradient()[::-1].copy())]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        path = tmp_path / f"cat.{kind.lower()}"
        path.write_bytes(saved(two[0], kind, save_all=True, append_images=two[1:], **_lossless(kind)))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            image = read_image(path)
        assert [str(warning.message) for warning in told if "holds 2 pictures" in str(warning.message)] != []
        assert len(told) == 1 and path.name in str(told[0].message) and told[0].category is KinescribeWarning
        assert np.abs(image.astype(int) - gradient()).mean() < 8


def _lossless(kind: str) -> dict[str, object]:
    return {"lossless": True} if kind == "WEBP" else {}


def test_a_phone_picture_with_a_second_view_is_no_animation() -> None:
    view = Image.fromarray(gradient())
    assert read_image(saved(view, "MPO", save_all=True, append_images=[view])).shape == (24, 40, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_picture_is_one_line_that_names_it(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    for part in (0.3, 0.9):
        (tmp_path / "cut.png").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(OptionError, match=r"^cut\.png is .*(give another file|are read)") as caught:
            read_image(tmp_path / "cut.png")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 50, "HEIC"),
        (b"\0\0\0\x18ftypisom" + b"\0" * 50, "video"),
        (b"\x89PNG\r\n\x1a\n", "no picture|damaged"),
    ],
)
def test_a_foreign_file_is_refused_by_name_and_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(data)
    with pytest.raises(OptionError, match=reason) as caught:
        read_image(tmp_path / "cat.png")
    assert str(caught.value).startswith("cat.png ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.png", "http://127.0.0.1/x.png", "concat:a|b", "a\0b.png", ""])
def test_a_missing_picture_is_an_option_error(name: str) -> None:
    with pytest.raises(OptionError, match="no such file; give the path of a picture"):
        read_image(name)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is a folder"):
        read_image(tmp_path)


def test_no_address_is_opened(counted: tuple[int, list[int]], tmp_path: Path) -> None:
    port, hits = counted
    (tmp_path / "list.png").write_text(f"#EXTM3U\nhttp://127.0.0.1:{port}/x.png\n")
    for name in (f"http://127.0.0.1:{port}/x.png", str(tmp_path / "list.png")):
        with pytest.raises(OptionError):
            read_image(name)
    assert hits == []


@pytest.mark.parametrize("given", [None, 3, object(), ["cat.png"], {"path": "cat.png"}, io.BytesIO(b"x")])
def test_another_type_is_named(given: object) -> None:
    with pytest.raises(OptionError, match=f"of type {type(given).__name__}"):
        read_image(given)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr(images, "rgb", never)
    for side in (5001, 12_000, 20_000, 100_000):  # Pillow alone is silent, warns, refuses, refuses
        with pytest.raises(OptionError, match="million pixels|far too many pixels"):
            read_image(png(side, side, 1, 0, b""))
    with pytest.raises(OptionError, match="million pixels"):
        read_image(Image.new("1", (6000, 6000)))
    monkeypatch.undo()
    with pytest.raises(OptionError, match="million pixels"):
        read_image(np.broadcast_to(np.zeros(1, np.float64), (100_000, 100_000)))


def test_a_huge_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGEST_FILE", 1 << 20)
    with (tmp_path / "big.png").open("wb") as file:
        os.truncate(file.fileno(), 3 << 20)
    with pytest.raises(OptionError, match=r"big\.png is over 1 MB"):
        read_image(tmp_path / "big.png")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5, 255.0])
def test_floats_outside_0_to_1_are_refused(value: float) -> None:
    bad = np.full((24, 40, 3), 0.5, np.float32)
    bad[0, 0, 0] = value
    with pytest.raises(OptionError, match="0 to 1"):
        read_image(bad)
    with pytest.raises(OptionError, match="holds numbers from"):
        read_image(Image.fromarray(bad[..., 0]))


@pytest.mark.parametrize("shape", [(3, 24, 40), (24, 40, 2), (24,), (2, 24, 40, 3), (0, 40, 3), ()])
def test_another_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="expected \\(height, width, 3\\)") as caught:
        read_image(np.zeros(shape, np.uint8))
    assert ("transpose" in str(caught.value)) == (shape == (3, 24, 40))


def test_other_numbers_are_refused() -> None:
    for kind in (np.int64, bool, complex):
        with pytest.raises(OptionError, match="expected uint8"):
            read_image(np.zeros((24, 40, 3), kind))
    with pytest.raises(OptionError, match="holds numbers from 0 to 70000"):
        read_image(Image.fromarray(np.array([[0, 70000]] * 9, np.int32)))
    with pytest.raises(OptionError, match="LAB"):
        read_image(saved(Image.new("LAB", (40, 24)), "TIFF"))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 40)])
def test_a_picture_of_a_pixel_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(OptionError, match="too small"):
        read_image(Image.new("RGB", size))


def test_a_long_picture_is_said_and_a_longer_one_refused() -> None:
    read_image(Image.new("RGB", (40, 10)))
    for size in ((41, 10), (10, 41), (160, 10)):
        with pytest.warns(KinescribeWarning, match="cut out the part"):
            read_image(Image.new("RGB", size))
    with pytest.raises(OptionError, match="16 times as long"):
        read_image(Image.new("RGB", (161, 10)))


def test_limits_are_those_of_the_project() -> None:
    assert source.LARGEST_FRAME == 25_000_000 and set(images.FORMATS) == {
        "PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_garbled_bytes_are_read_or_refused_in_one_line(kind: str) -> None:
    random = np.random.default_rng(7)
    whole = saved(Image.fromarray(gradient()), kind)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 400), 4):
            data[place] = random.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert read_image(bytes(data)).dtype == np.uint8
            except OptionError as error:
                assert "\n" not in str(error) and len(str(error)) < 400
