"""Pictures and frames as the networks take them, against what the reference code made of the same files.

All of it is exact: the same Pillow filters and the same float32 operations in the same order.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from goldens import expected as read_expected
from goldens import folder
from kinescribe.media.crop import centre_crop, clip_pixels
from kinescribe.media.images import read_image
from kinescribe.media.read import as_video, read_video
from kinescribe.ops.resize import squashed

FAMILY = "image_and_video_to_video"
DECODERS = 3
"""Levels by which two builds of a decoder may differ; the one at hand gives the very numbers of the reference."""

pictures = pytest.mark.parametrize("name", ["a", "b"])


@cache
def expected() -> dict[str, Tensor]:
    return read_expected(FAMILY)


def file(name: str) -> Path:
    return folder(f"{FAMILY}/{name.partition('/')[0]}") / name.partition("/")[2]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("i2v/test_a.png", "i2v.image_a.u8"),
        ("i2v/test_b.png", "i2v.image_b.u8"),
        ("i2vgen-xl/test.png", "xl.image_u8"),
    ],
)
def test_picture_is_read_as_the_reference_reads_it(name: str, key: str) -> None:
    assert np.array_equal(read_image(file(name)), expected()[key])


@pictures
def test_strict_crop_equals_the_reference(name: str) -> None:
    crop = centre_crop(read_image(file(f"i2v/test_{name}.png")), 448, 448, strict=True)
    assert np.array_equal(crop[:, 224], expected()[f"i2v.image_{name}.crop_column_u8"])
    small = np.asarray(Image.fromarray(crop).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(small[::16], expected()[f"i2v.image_{name}.vit_u8"])


@pictures
def test_strict_clip_pixels_equal_the_reference(name: str) -> None:
    pixels = clip_pixels(read_image(file(f"i2v/test_{name}.png")), crop=(448, 448), strict=True)
    assert np.array_equal(pixels[:, :4], expected()[f"i2v.image_{name}.vit_frame_rows"])


def test_the_default_crop_differs_only_where_the_reference_is_short() -> None:
    short, whole = (
        clip_pixels(read_image(file(f"i2v/test_{name}.png")), crop=(448, 448))[:, :4] for name in "ab"
    )
    assert np.abs(short - expected()["i2v.image_a.vit_frame_rows"].numpy()).max() > 1
    assert np.array_equal(whole, expected()["i2v.image_b.vit_frame_rows"])


def test_clip_is_decoded_as_the_reference_decodes_it() -> None:
    video = read_video(file("v2v/test.mp4"))
    assert video.fps == 8 and video.notes == ()
    wanted = expected()["v2v.mp4_cv2_u8"].int()
    assert (torch.from_numpy(video.frames).int() - wanted).abs().max() <= DECODERS


def test_strict_squash_equals_the_reference() -> None:
    frames = as_video(expected()["v2v.video_u8"]).frames
    _, _, height, width = expected()["v2v.resized"].shape
    assert torch.equal(
        squashed(torch.from_numpy(frames), width, height, strict=True), expected()["v2v.resized"]
    )
