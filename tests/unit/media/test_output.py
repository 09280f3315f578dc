import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kinescribe.errors import OptionError, WriteError
from kinescribe.media import output
from kinescribe.media.output import check_output, free_name, output_format, whole_file
from kinescribe.media.read import read_video
from kinescribe.media.video import Video


def test_format_follows_the_name() -> None:
    assert [output_format(f"a/b.{e}") for e in ("mp4", "MP4", "webm", "gif", "webp")] == [
        "mp4", "mp4", "webm", "gif", "webp",
    ]  # fmt: skip
    assert output_format("frames/") == output_format("frames") == output_format("v1.2/") == "png"


@pytest.mark.parametrize("name", ["clip.mov", "clip.mkv", "clip.m3u8", "clip.txt", "clip.mp4.exe"])
def test_unknown_extension_is_an_option_error_naming_the_known(name: str) -> None:
    with pytest.raises(OptionError, match=r"\.mp4 \.webm \.gif \.webp"):
        check_output(name)


@pytest.mark.parametrize(
    "name", ["a b.mp4", "a'b\".mp4", "-o.mp4", "ü你.mp4", "a;b$(c).mp4", "%03d.mp4", "a:b.mp4"]
)
def test_strange_names_are_only_names(name: str, video: Video, tmp_path: Path) -> None:
    assert video.save(tmp_path / "new folder" / name).name == name
    assert [f.name for f in (tmp_path / "new folder").iterdir()] == [name]


def test_an_address_is_a_file_name_and_nothing_is_sent(
    video: Video, tmp_path: Path, counted: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port, hits = counted
    for name in (f"http://127.0.0.1:{port}/x.mp4", "pipe:1.mp4", "concat:a|b.mp4", "tcp:127.0.0.1.webm"):
        path = video.save(name)
        assert path.is_relative_to(tmp_path) and path.is_file()
        assert len(read_video(name).frames) == len(video.frames)
    assert hits == []


@pytest.mark.parametrize(
    "name", ["a\0b.mp4", "x" * 300 + ".mp4", "你" * 100 + ".mp4", "/proc/nowhere/x.mp4", "/proc/x.mp4"]
)
def test_a_name_that_cannot_be_written_is_a_write_error_before_the_work(name: str) -> None:
    with pytest.raises(WriteError) as caught:
        check_output(name)
    assert caught.value.exit_code == 6 and "\n" not in str(caught.value)


def test_a_file_in_the_place_of_a_folder_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot write"):
        check_output(tmp_path / "file" / "c.mp4")


def test_a_folder_in_the_place_of_a_clip_takes_frames_only_when_empty(tmp_path: Path) -> None:
    (tmp_path / "c.mp4").mkdir()
    assert check_output(tmp_path / "c.mp4") == tmp_path / "c.mp4"
    (tmp_path / "c.mp4" / "mine.txt").touch()
    with pytest.raises(WriteError, match="exists"):
        check_output(tmp_path / "c.mp4")


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a" / "b" / "c.mp4").parent.is_dir()


def test_an_existing_file_needs_overwrite_and_the_error_offers_a_free_name(
    video: Video, tmp_path: Path
) -> None:
    path = video.save(tmp_path / "clip.mp4")
    with pytest.raises(WriteError, match=r"--overwrite.*clip-1\.mp4"):
        video.save(path)
    assert video.save(path, overwrite=True) == path
    (tmp_path / "clip-1.mp4").touch()
    assert free_name(path).name == "clip-2.mp4"


def test_a_folder_with_other_files_is_never_replaced(video: Video, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(WriteError):
            video.save(f"{tmp_path}/", overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_folder_of_frames_is_replaced_as_a_whole(video: Video, tmp_path: Path) -> None:
    path = video.save(f"{tmp_path}/frames/")
    short = Video(frames=video.frames[:3], fps=8.0)
    short.save(path, overwrite=True)
    assert len(list(path.iterdir())) == 3


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    final = tmp_path / "c.mp4"
    with pytest.raises(WriteError, match="meanwhile"), whole_file(final, overwrite=False) as temporary:
        temporary.write_text("ours")
        final.write_text("theirs")
    assert final.read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


def test_without_hard_links_a_rename_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with whole_file(tmp_path / "c.mp4", overwrite=False) as temporary:
        temporary.write_text("ours")
    assert (tmp_path / "c.mp4").read_text() == "ours"


def test_a_full_disk_is_seen_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(WriteError, match="MB free"):
        check_output(tmp_path / "c.mp4")


@pytest.mark.parametrize("name", ["c.mp4", "c.webm", "c.gif", "c.webp", "c/"])
def test_a_disk_that_fills_while_writing_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "ROOM", 1)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system needs rights this user lacks")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
        monkeypatch.setattr(
            output.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)
        )
        with pytest.raises(WriteError, match="No space left"):
            Video(frames=noise, fps=8.0).save(f"{tmp_path}/{name}")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_read_only_file_system_is_a_write_error(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a read-only file system needs rights this user lacks")
    try:
        with pytest.raises(WriteError, match="Read-only"):
            check_output(tmp_path / "c.mp4")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_absent_encoder_is_a_write_error_naming_what_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("av.codec.codecs_available", {"libvpx-vp9"})
    with pytest.raises(WriteError, match=r"\.webm \.gif \.webp or folder/"):
        check_output(tmp_path / "c.mp4")


def test_the_file_mode_follows_the_umask(video: Video, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        assert video.save(tmp_path / "c.mp4").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)


@pytest.mark.parametrize("overwrite", [False, True])
def test_writers_of_one_name_leave_one_whole_file(overwrite: bool, video: Video, tmp_path: Path) -> None:
    def write(_: int) -> bool:
        try:
            video.save(tmp_path / "c.mp4", overwrite=overwrite)
        except WriteError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = sum(pool.map(write, range(8)))
    assert won == (8 if overwrite else 1)
    assert [f.name for f in tmp_path.iterdir()] == ["c.mp4"]
    assert len(read_video(tmp_path / "c.mp4").frames) == len(video.frames)


def test_a_clip_as_bytes_is_the_file_that_would_be_written(video: Video, tmp_path: Path) -> None:
    for extension in (".mp4", ".gif", ".webp"):
        assert video.encoded(extension) == video.save(tmp_path / f"c{extension}").read_bytes()
    assert video.encoded() == video.encoded(".mp4")
    (tmp_path / "c.webm").write_bytes(video.encoded(".webm"))  # each of which has a number of its own
    assert len(read_video(tmp_path / "c.webm").frames) == len(video.frames)
    assert b"prompt" not in video.encoded(metadata=False)
    for extension in ("", "/", ".mov"):
        with pytest.raises(OptionError, match="use "):
            video.encoded(extension)


def test_a_file_object_is_refused_with_the_way_to_fill_it() -> None:
    # in a process of its own: here the run-time type checker would be first to complain
    code = (
        "import io, numpy\nfrom kinescribe.media.video import Video\n"
        "video = Video(frames=numpy.zeros((2, 16, 16, 3), numpy.uint8), fps=8)\n"
        "try: video.save(io.BytesIO())\nexcept TypeError as error: print(error)\n"
        "file = io.BytesIO()\nfile.write(video.encoded())\nprint(file.getvalue()[4:8])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    refusal = "a clip is saved under a name, not into a BytesIO: use file.write(video.encoded())"
    assert done.stdout.splitlines() == [refusal, "b'ftyp'"]
