from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.compat.diffusers.pictures import clip_of, load_image, load_video, pictures_of
from kinescribe.errors import OptionError
from kinescribe.media.write import write_video


def test_a_picture_is_loaded_upright_and_in_rgb(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (16, 32), (0, 0, 0, 0))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    loaded = load_image(str(tmp_path / "a.png"))
    assert (loaded.size, loaded.mode, loaded.getpixel((0, 0))) == ((32, 16), "RGB", (255, 255, 255))
    assert load_image(loaded, lambda image: image.convert("L")).mode == "L"


def test_an_address_is_not_fetched() -> None:
    with pytest.raises(OptionError, match="http://127.0.0.1:9/x.png"):
        load_image("http://127.0.0.1:9/x.png")


def test_a_clip_is_loaded_with_its_rate(tmp_path: Path) -> None:
    frames = np.zeros((3, 16, 32, 3), np.uint8)
    write_video(frames, 12, tmp_path / "c.mp4")
    images, fps = load_video(tmp_path / "c.mp4", return_fps=True)
    assert fps == 12
    assert [image.size for image in images] == [(32, 16)] * 3
    assert len(load_video(str(tmp_path / "c.mp4"), lambda images: images[:1])) == 1


def test_tensors_are_pictures_from_0_to_1() -> None:
    levels = torch.arange(256.0).reshape(1, 16, 16).expand(3, -1, -1) / 255
    (one,) = pictures_of(levels)
    assert np.array_equal(one[..., 0].ravel(), np.arange(256))
    assert len(pictures_of(levels[None].expand(2, -1, -1, -1))) == 2
    assert len(pictures_of([levels, Image.new("RGB", (16, 16))])) == 2


def test_floats_of_a_clip_stay_as_exact_as_they_came() -> None:
    exact = np.linspace(0, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    assert torch.equal(clip_of(exact), torch.from_numpy(exact).movedim(-1, 1) * 2 - 1)
    bytes_ = (exact * 255).astype(np.uint8)
    assert (clip_of(bytes_) - torch.from_numpy(bytes_ / 127.5 - 1).movedim(-1, 1)).abs().max() < 1e-6
    for wrong in (exact * 2, np.full_like(exact, np.nan)):
        with pytest.raises(OptionError):
            clip_of(wrong)
