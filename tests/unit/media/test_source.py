import os
from pathlib import Path

import pytest

from kinescribe.errors import OptionError
from kinescribe.media.source import check_size, existing, opened, refusal


@pytest.mark.parametrize(
    "name",
    ["", "  ", "missing.mp4", "a\0b", "x" * 400, "~nobody-of-that-name/x", "pipe:0", "concat:a|b", "file:x"],
)
def test_what_is_no_file_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="no such file; give the path of a clip") as caught:
        existing(name, "a clip")
    assert "\n" not in str(caught.value)


def test_an_address_is_told_to_be_downloaded() -> None:
    with pytest.raises(OptionError, match="download it first"):
        existing("https://example.org/cat.png", "a picture")


def test_a_name_like_an_address_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b", "pipe:0", "-i"):
        Path(name).write_bytes(b"x")
        assert existing(name, "a clip") == tmp_path / name


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(OptionError, match="device or a pipe"):
            existing(name, "a picture")


def test_an_unreadable_file_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with (
        pytest.raises(OptionError, match=r"cannot read x\.png: Permission denied"),
        opened(tmp_path / "x.png"),
    ):
        pass


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "is empty"),
        (b"#EXTM3U\n", "playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n", "playlist"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n <!DOCTYPE html>", "web page"),
        (b"<svg xmlns", "SVG"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypisom", "is a video, no picture"),
        (b"\x1aE\xdf\xa3", "is a video, no picture"),
        (b"hello", "is no picture"),
    ],
)
def test_a_foreign_file_is_named_for_what_it_is(head: bytes, reason: str) -> None:
    assert reason in refusal(head, "picture")


def test_sizes_are_limited_alone_and_together() -> None:
    check_size(5000, 5000)
    with pytest.raises(OptionError, match="25 million pixels"):
        check_size(5000, 5001)
    with pytest.raises(OptionError, match="8 GiB"):
        check_size(1280, 720, 10_000)
