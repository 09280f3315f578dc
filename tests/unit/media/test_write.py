import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from kinescribe.errors import OptionError, WriteError
from kinescribe.media import write
from kinescribe.media.read import read_recipe, read_video
from kinescribe.media.video import Video
from kinescribe.media.write import write_video

FORMATS = ["clip.mp4", "clip.webm", "clip.gif", "clip.webp", "frames/"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_frames_size_fps_and_recipe(name: str, video: Video, tmp_path: Path) -> None:
    path = video.save(f"{tmp_path}/{name}")
    back = read_video(path)
    assert path.is_absolute() and back.frames.shape == video.frames.shape
    assert back.fps == 8.0
    assert back.recipe == video.recipe == read_recipe(path)
    assert np.abs(back.frames.astype(int) - video.frames).mean() < 4.0


def test_png_frames_are_exact(video: Video, tmp_path: Path) -> None:
    assert np.array_equal(read_video(video.save(f"{tmp_path}/frames/")).frames, video.frames)


def test_mp4_is_h264_avc1_yuv420p_bt709_limited_with_the_index_first(video: Video, tmp_path: Path) -> None:
    path = video.save(tmp_path / "clip.mp4")
    with av.open(str(path)) as clip:
        codec = clip.streams.video[0].codec_context
        assert (codec.name, codec.codec_tag, codec.pix_fmt) == ("h264", "avc1", "yuv420p")
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 1, 1, 1)
        assert clip.streams.video[0].average_rate == 8
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_flat_colours_survive_mp4_within_three_steps(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 64, 200)]
    clip = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])
    back = read_video(write_video(clip, 8, tmp_path / "c.mp4")).frames
    assert np.abs(back.astype(int) - clip).max() <= 3


def test_same_frames_give_the_same_bytes(video: Video, tmp_path: Path) -> None:
    files = {video.save(tmp_path / f"{i}.mp4").read_bytes() for i in range(30)}
    assert len(files) == 1


@pytest.mark.parametrize("fps", [0.5, 1, 7.5, 8, 23.976, 24, 60])
def test_fps_is_kept(fps: float, ball: np.ndarray, tmp_path: Path) -> None:
    assert read_video(write_video(ball, fps, tmp_path / "c.mp4")).fps == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_impossible_fps_is_an_option_error(fps: float, ball: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="fps"):
        write_video(ball, fps, tmp_path / "c.mp4")


@pytest.mark.parametrize("size", [(8, 8), (8, 128), (72, 40), (128, 128)])
@pytest.mark.parametrize("name", ["c.mp4", "c.webm"])
def test_size_is_exactly_the_size_asked(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    clip = np.zeros((3, *size, 3), np.uint8)
    assert read_video(write_video(clip, 8, tmp_path / name)).frames.shape == clip.shape


def test_one_frame_is_a_video_of_one_frame(ball: np.ndarray, tmp_path: Path) -> None:
    for name in FORMATS:
        assert len(read_video(write_video(ball[:1], 8, f"{tmp_path}/{name}")).frames) == 1


def test_a_clip_without_change_can_be_written(ball: np.ndarray, tmp_path: Path) -> None:
    still = np.repeat(ball[:1], 6, axis=0)
    for name in FORMATS:
        back = read_video(write_video(still, 8, f"{tmp_path}/{name}", recipe={"request": {"fps": 8.0}}))
        assert len(back.frames) == (1 if name == "clip.webp" else 6)  # WebP keeps no time for a still


def test_odd_size_is_an_error_naming_the_even_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="66x64"):
        write_video(np.zeros((2, 63, 65, 3), np.uint8), 8, tmp_path / "c.mp4")
    assert (
        read_video(write_video(np.zeros((2, 63, 65, 3), np.uint8), 8, tmp_path / "c.gif")).frames.shape[1]
        == 63
    )


@pytest.mark.parametrize("name", FORMATS)
def test_without_metadata_no_trace_of_the_prompt_is_left(name: str, video: Video, tmp_path: Path) -> None:
    path = video.save(f"{tmp_path}/{name}", metadata=False)
    files = list(path.iterdir()) if path.is_dir() else [path]
    assert all(
        b"ball" not in file.read_bytes() and b"AI-generated" not in file.read_bytes() for file in files
    )
    with pytest.raises(OptionError, match="no recipe"):
        read_recipe(path)


def test_a_failed_check_leaves_no_file(video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(write.TAGS, "mp4", "hev1")
    with pytest.raises(WriteError, match="reads back"):
        video.save(tmp_path / "c.mp4")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_encoding_leaves_no_file(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        next(tmp_path.iterdir()).stat()  # the temporary file is there
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        video.save(tmp_path / "c.mp4")
    assert list(tmp_path.iterdir()) == []


def test_no_program_is_started_and_no_path_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.addaudithook(lambda e, a: sys.exit(e) if e.startswith(('subprocess', 'os.system', 'socket.')) "
        "else None); import numpy as np; from kinescribe.media.write import write_video;"
        f"write_video(np.zeros((2, 16, 16, 3), np.uint8), 8, {str(tmp_path / 'c.mp4')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "PYTHONPATH": "src"})


def test_media_does_not_import_torch() -> None:
    code = (
        "import sys, kinescribe.media.video, kinescribe.media.write, kinescribe.media.read, kinescribe.media.sheet;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
