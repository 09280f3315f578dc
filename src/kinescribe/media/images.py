"""One picture from a file or from memory as `uint8 (h w 3)`: upright, in RGB, refused where it cannot be right."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinescribe.errors import KinescribeWarning, OptionError
from kinescribe.media.frames import as_array, scaled
from kinescribe.media.source import HEAD, check_size, existing, opened, refusal

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
LARGEST_FILE = 256 << 20  # bytes; 25 million pixels of 16-bit colours with alpha are 200 MB
SMALLEST_SIDE = 8  # pixels: one latent
LONG, TOO_LONG = 4, 16  # times as long as wide
# what Pillow's readers raise for damaged files, each of them met there
DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    EOFError, struct.error, zlib.error,
)  # fmt: skip
ORIENTATION = 0x0112  # EXIF

Matrix = tuple[int, int, int, int]
"""The signs by which a stored picture is turned and mirrored to be shown: x' = a x + c y, y' = b x + d y."""

AS_STORED: Matrix = (1, 0, 0, 1)
EXIF: dict[int, Matrix] = {
    2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1), 5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}  # fmt: skip

Image = UInt8[np.ndarray, "h w 3"]


def read_image(source: Any) -> Image:
    """A picture from a path, the bytes of a file, a PIL image, or an array, as RGB.

    Files are PNG, JPEG, WebP, GIF, BMP or TIFF by their bytes, turned as EXIF says; of an animation the first
    picture is taken. Transparent parts become white, 16 bits become 8; colour profiles are not applied.
    Arrays are `(h w)`, `(h w 1)`, `(h w 3)` in RGB order or `(h w 4)`: uint8, uint16, or floats from 0 to 1.
    Raises OptionError for what is missing, damaged, no picture, too large, too small, or over 16 times as long
    as wide; over 4 times is one warning.
    """
    from PIL import Image as Pillow

    name = "the picture"
    if isinstance(source, bytes):
        image = decode(source, name)
    elif isinstance(source, str | Path):
        name, image = _from_file(source)
    elif isinstance(source, Pillow.Image):
        check_size(*source.size, name=name)
        image = rgb(source, name)
    elif hasattr(source, "dtype"):
        image = _from_array(as_array(source))
    else:
        kind = type(source).__name__
        raise OptionError(f"a picture of type {kind}: give a path, a PIL image, or an array (h, w, 3)")
    _check_shape(image, name)
    return image


def decode(data: bytes, name: str) -> Image:
    """The picture in the bytes of a file; `name` stands in errors. The size is checked before any pixel is decoded."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what else is odd about a file that can be read, nobody can mend
        try:
            picture = Pillow.open(io.BytesIO(data), formats=FORMATS)
            check_size(*picture.size, name=name)
        except UnidentifiedImageError:
            kinds = "PNG, JPEG, WebP, GIF, BMP and TIFF are read"
            raise OptionError(f"{name} {refusal(data[:HEAD], 'picture')} ({kinds})") from None
        except Pillow.DecompressionBombError as error:
            raise OptionError(f"{name} has far too many pixels: make it smaller") from error
        except OptionError:
            raise
        except DAMAGE as error:
            raise _damaged(name, error) from error
        with picture:
            image, count = rgb(picture, name), _pictures(picture)
    if count > 1:
        _say(f"{name} holds {count} pictures, the first is used: save another one as PNG to use that")
    return image


def rgb(picture: Any, name: str) -> Image:
    """A PIL image of any mode, as read_image gives it."""
    try:
        picture.load()
        if picture.mode.startswith("I;16"):
            image = _shallow(np.asarray(picture))
        elif picture.mode in ("I", "F"):
            image = _from_wide(np.asarray(picture), name)
        elif picture.has_transparency_data:
            image = on_white(np.asarray(picture.convert("RGBA")))
        elif picture.mode == "LAB":
            raise OptionError(f"{name} holds LAB colours: save it in RGB")
        else:
            image = np.array(picture.convert("RGB"))
        shown = turned(image, _orientation(picture))
    except OptionError:
        raise
    except DAMAGE as error:
        raise _damaged(name, error) from error
    return np.ascontiguousarray(shown)


def turned(image: Image, matrix: Matrix) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A view of a stored picture as it is to be shown: by the nearest quarter turn, and mirrored."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def on_white(image: UInt8[np.ndarray, "h w 4"]) -> Image:
    """Colours with alpha, which is not multiplied in, laid on white."""
    colours, alpha = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _from_file(path: str | Path) -> tuple[str, Image]:
    source = existing(path, "a picture")
    if source.is_dir():
        raise OptionError(f"{str(path)!r} is a folder: give the path of a picture in it")
    with opened(source) as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise OptionError(f"{source.name} is over {LARGEST_FILE >> 20} MB: give a smaller picture")
    return source.name, decode(data, source.name)


def _from_array(array: np.ndarray) -> Image:
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        fix = "; put the colours last, with transpose(1, 2, 0)" if first else ""
        raise OptionError(f"a picture of shape {array.shape}: expected (height, width, 3){fix}")
    check_size(array.shape[1], array.shape[0], name="the picture")
    if array.dtype == np.uint16:
        array = _narrow(array)
    elif array.dtype != np.uint8:
        array = scaled(array)
    if array.shape[-1] == 4:
        return on_white(array)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def _from_wide(array: np.ndarray, name: str) -> Image:
    """From one channel of 32-bit integers or floats, where only the values tell what white is."""
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return _shallow(np.rint(array * 65535).astype(np.uint16))
    if array.dtype.kind == "i" and low >= 0 and high <= 65535:
        return _shallow(array.astype(np.uint16))
    raise OptionError(f"{name} holds numbers from {low:g} to {high:g}: save it with 8 or 16 bits a colour")


def _shallow(grey: np.ndarray) -> Image:
    return np.repeat(_narrow(grey)[..., None], 3, axis=-1)


def _narrow(array: np.ndarray) -> np.ndarray:
    """8 bits from 16, rounded: 65535 / 257 = 255."""
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _orientation(picture: Any) -> Matrix:
    try:
        return EXIF.get(picture.getexif().get(ORIENTATION), AS_STORED)
    except DAMAGE:  # a broken note about the picture is no broken picture
        return AS_STORED


def _pictures(picture: Any) -> int:
    if picture.format == "MPO":  # a phone's JPEG with a second view or a depth map, which nobody means
        return 1
    try:
        return int(getattr(picture, "n_frames", 1))
    except DAMAGE:  # in what follows the first one
        return 1


def _check_shape(image: Image, name: str) -> None:
    height, width, _ = image.shape
    short, long = sorted((width, height))
    if short < SMALLEST_SIDE:
        least = f"{SMALLEST_SIDE}x{SMALLEST_SIDE}"
        raise OptionError(f"{name} is {width}x{height}, too small to show anything: give at least {least}")
    if long > TOO_LONG * short:
        raise OptionError(
            f"{name} is {width}x{height}, over {TOO_LONG} times as long as wide: cut out the part you want"
        )
    if long > LONG * short:
        _say(
            f"{name} is {width}x{height}: most of it will not fit into the frame; cut out the part you want first"
        )


def _say(message: str) -> None:
    warnings.warn(message, KinescribeWarning, stacklevel=4)


def _damaged(name: str, error: BaseException) -> OptionError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return OptionError(f"{name} is damaged ({reason}): give another file")
