"""What is put in, and where what is made of it goes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from goldens import folder
from kinescribe.cli.source import name_after, read_source
from kinescribe.errors import OptionError

MODELS = folder("image_and_video_to_video")


@pytest.mark.parametrize(
    ("path", "ending", "expected"),
    [
        ("boat.png", "", "boat.mp4"),
        ("a.b.jpeg", "", "a.b.mp4"),
        ("boat.gif", "", "boat.mp4"),
        ("clip.mp4", "-refined", "clip-refined.mp4"),
        ("clip.WebM", "-refined", "clip-refined.WebM"),
        ("clip.mov", "-refined", "clip-refined.mp4"),
        ("clip", "-remake", "clip-remake.mp4"),
    ],
)
def test_a_clip_is_named_after_what_it_is_made_of(
    tmp_path: Path, path: str, ending: str, expected: str
) -> None:
    assert name_after(str(tmp_path / path), ending, overwrite=False) == str(tmp_path / expected)
    (tmp_path / expected).touch()
    taken = Path(expected)
    assert name_after(str(tmp_path / path), ending, overwrite=False) == str(
        tmp_path / f"{taken.stem}-1{taken.suffix}"
    )
    assert name_after(str(tmp_path / path), ending, overwrite=True) == str(tmp_path / expected)


def test_frames_stay_frames(tmp_path: Path) -> None:
    (tmp_path / "v1.2").mkdir()
    assert name_after(f"{tmp_path}/v1.2/", "-refined", overwrite=False) == f"{tmp_path}/v1.2-refined/"
    (tmp_path / "v1.2-refined").mkdir()
    assert name_after(f"{tmp_path}/v1.2", "-refined", overwrite=True) == f"{tmp_path}/v1.2-refined/"
    assert name_after(f"{tmp_path}/v1.2", "-refined", overwrite=False).endswith("/v1-1.2-refined/")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(MODELS / "i2v" / "test_a.png", tmp_path / "boat.png")
    assert read_source("~/boat.png", "image-to-video").size == (80, 45)
    assert name_after("~/boat.png", overwrite=False) == str(tmp_path / "boat.mp4")


def test_a_picture_is_handed_on_as_its_path_and_a_clip_as_read() -> None:
    picture = read_source(str(MODELS / "i2v" / "test_a.png"), "image-to-video")
    assert picture.given == picture.path and picture.content.shape == (45, 80, 3)
    assert (picture.facts.name, picture.facts.frames, picture.facts.fps) == ("test_a.png", 1, None)
    clip = read_source(str(MODELS / "v2v" / "test.mp4"), "video-to-video")
    assert clip.given is clip.content and clip.content.name == "test.mp4"
    assert (clip.facts.name, clip.facts.frames, clip.facts.fps) == ("test.mp4", 4, 8.0)
    assert np.array_equal(clip.given.frames.shape, (4, 24, 40, 3))


@pytest.mark.parametrize("task", ["image-to-video", "video-to-video"])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, task: str) -> None:
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(OptionError):
        read_source(str(tmp_path / "x"), task)  # type: ignore[arg-type]
