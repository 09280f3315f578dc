import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinescribe.errors import OptionError
from kinescribe.media import containers
from kinescribe.media.read import read_video
from kinescribe.media.write import write_video

EIGHTH = Fraction(1, 8)
MILLISECOND = Fraction(1, 1000)


@pytest.fixture
def corner() -> np.ndarray:
    """Six black frames with a white quarter top left."""
    clip = np.zeros((6, 32, 64, 3), np.uint8)
    clip[:, :16, :32] = 255
    return clip


def encode(
    path: Path,
    frames: Sequence[np.ndarray] | np.ndarray,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    ticks: Sequence[int] | None = None,
    base: Fraction = EIGHTH,
    options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda _: None,
) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=8, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.codec_context.time_base = base
        prepare(stream.codec_context)
        for index, image in enumerate(frames):
            shown = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[-1] == 4 else "rgb24")
            frame = shown.reformat(format=pixels)
            frame.pts, frame.time_base = index if ticks is None else ticks[index], base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("matrix", "place"),
    [
        ((1, 0, 0, 1), (0, 0)), ((-1, 0, 0, 1), (0, -1)), ((1, 0, 0, -1), (-1, 0)), ((-1, 0, 0, -1), (-1, -1)),
        ((0, 1, -1, 0), (0, -1)), ((0, -1, 1, 0), (-1, 0)), ((0, 1, 1, 0), (0, 0)), ((0, -1, -1, 0), (-1, -1)),
    ],
)  # fmt: skip
def test_a_clip_is_turned_and_mirrored_as_its_file_says(
    matrix: tuple[int, int, int, int], place: tuple[int, int], corner: np.ndarray, tmp_path: Path
) -> None:
    a, b, c, d = (sign << 16 for sign in matrix)
    data = bytearray(write_video(corner, 8, tmp_path / "c.mp4").read_bytes())
    start = data.find(b"tkhd") + 4 + 40
    data[start : start + 20] = struct.pack(">5i", a, b, 0, c, d)
    (tmp_path / "c.mp4").write_bytes(data)
    frames = read_video(tmp_path / "c.mp4").frames
    assert frames.shape == ((6, 32, 64, 3) if matrix[0] else (6, 64, 32, 3))
    corners = {(y, x): int(frames[0, y, x].min()) for y in (0, -1) for x in (0, -1)}
    assert [where for where, light in corners.items() if light > 128] == [place]


def test_an_uneven_frame_rate_is_made_even_and_told(corner: np.ndarray, tmp_path: Path) -> None:
    grey = np.stack([np.full_like(corner[0], 40 * i) for i in range(6)])
    path = encode(tmp_path / "c.mp4", grey, ticks=[0, 100, 200, 300, 1500, 1600], base=MILLISECOND)
    video = read_video(path)
    assert video.fps == pytest.approx(3.125) and len(video.frames) == 6
    shown = (video.frames[:, 0, 0, 0] / 40).round().astype(int).tolist()
    assert shown == [1, 3, 3, 3, 3, 5]  # at 0.16, 0.48, 0.8, 1.12, 1.44, 1.76 seconds
    assert [note for note in video.notes if "uneven" in note and "3.125 a second" in note]


def test_times_rounded_by_the_container_are_even(corner: np.ndarray, tmp_path: Path) -> None:
    path = encode(tmp_path / "c.mkv", corner, ticks=[0, 125, 250, 376, 500, 624], base=MILLISECOND)
    assert read_video(path).notes == () and read_video(path).fps == 8


def test_sound_is_left_out_and_told(corner: np.ndarray, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "c.mp4"), "w") as out:
        stream, sound = out.add_stream("libx264", rate=8), out.add_stream("aac", rate=44100)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for image in corner:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        out.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    video = read_video(tmp_path / "c.mp4")
    assert len(video.frames) == 6 and video.notes == ("the sound is left out",)


def test_pixels_that_are_not_square_are_made_so_and_told(corner: np.ndarray, tmp_path: Path) -> None:
    video = read_video(encode(tmp_path / "c.mp4", corner, options={"x264-params": "sar=2/1"}))
    assert video.size == (128, 32) and "2 times as wide" in video.notes[0]
    assert video.frames[0, 4, 40].min() > 240 and video.frames[0, 4, 90].max() < 16
    nonsense = read_video(encode(tmp_path / "c.mp4", corner, options={"x264-params": "sar=2000/1"}))
    assert nonsense.size == (64, 32)


def test_clear_parts_of_a_clip_become_white(tmp_path: Path) -> None:
    clip = np.zeros((3, 32, 64, 4), np.uint8)
    clip[:, :, :32, 3] = 255
    frames = read_video(encode(tmp_path / "c.mov", clip, "qtrle", "argb")).frames
    assert (frames[:, :, :32] == 0).all() and (frames[:, :, 32:] == 255).all()


@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_told(curve: int, name: str, corner: np.ndarray, tmp_path: Path) -> None:
    def mark(codec: Any) -> None:
        codec.color_trc = curve

    assert name in read_video(encode(tmp_path / "c.mp4", corner, prepare=mark)).notes[0]


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
def test_a_corrupt_tail_is_refused_with_what_could_be_read(part: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 64, 3), dtype=np.uint8)
    data = write_video(noise, 8, tmp_path / "c.mp4").read_bytes()
    for tail in (b"", bytes(len(data) - int(len(data) * part)))[: 1 if part > 0.9 else 2]:
        (tmp_path / "c.mp4").write_bytes(data[: int(len(data) * part)] + tail)
        with pytest.raises(
            OptionError, match=r"^c\.mp4 is damaged after \d+ frames .*give a whole file"
        ) as caught:
            read_video(tmp_path / "c.mp4")
        assert "\n" not in str(caught.value)


def test_a_clip_cut_off_between_two_frames_is_told(ball: np.ndarray, tmp_path: Path) -> None:
    data = write_video(np.concatenate([ball] * 4), 8, tmp_path / "c.webm").read_bytes()
    (tmp_path / "c.webm").write_bytes(data[: len(data) * 4 // 5])
    video = read_video(tmp_path / "c.webm")
    assert 0 < len(video.frames) < 32
    assert "the file promises 4.00 s" in video.notes[-1]


def test_a_garbled_frame_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 64, 3), dtype=np.uint8)
    whole, told = write_video(noise, 8, tmp_path / "c.mp4").read_bytes(), []
    # A decoder does not notice every hole, and an encoder lays the bytes out as it likes: several places, one by one.
    for start in range(len(whole) // 8, len(whole) // 2, len(whole) // 50):
        path = tmp_path / f"{start}.mp4"
        path.write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
        with suppress(OptionError):
            told += read_video(path).notes
    assert "1 of 8 frames are damaged" in told


def test_an_unknown_codec_is_refused(corner: np.ndarray, tmp_path: Path) -> None:
    path = write_video(corner, 8, tmp_path / "c.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(OptionError, match="convert it to H.264"):
        read_video(path)


def test_a_size_that_changes_on_the_way_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "c.avi"), "w") as out:
        stream = out.add_stream("mjpeg", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        for index, side in enumerate((32, 32, 64)):
            for packet in jpeg(side):
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, EIGHTH
                out.mux(packet)
    with pytest.raises(OptionError, match="changes its size"):
        read_video(tmp_path / "c.avi")


def jpeg(side: int) -> list[av.Packet]:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width = codec.height = side
    codec.pix_fmt, codec.time_base = "yuvj420p", EIGHTH
    frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8)).reformat(format="yuvj420p")
    frame.pts, frame.time_base = 0, EIGHTH
    return [*codec.encode(frame), *codec.encode(None)]


def test_a_frame_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = np.zeros((1, 5008, 5008, 3), np.uint8)
    path = encode(tmp_path / "c.mp4", black, options={"preset": "ultrafast"})
    monkeypatch.setattr(containers, "_pixels", lambda *_: pytest.fail("a frame was decoded"))
    with pytest.raises(OptionError, match="the clip is 5008x5008: the limit is 25 million pixels"):
        read_video(path)


def test_a_clip_too_long_is_refused_before_it_is_whole(
    corner: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinescribe.media.source.LARGEST_CLIP", 4 * 32 * 64 * 3)
    paths = [encode(tmp_path / name, corner) for name in ("c.mp4", "c.mkv")]  # which tells no count of frames
    for path in paths:
        with pytest.raises(OptionError, match="frames of 64x32: the limit is .* cut the clip"):
            read_video(path)


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "http:x.mp4", "pipe:0", "-i.mp4", "list.m3u8"])
def test_any_name_is_only_a_name(
    name: str, corner: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(corner, 8, tmp_path / "c.mp4").rename(tmp_path / name)
    assert len(read_video(name).frames) == 6


@pytest.mark.parametrize("name", ["c.mkv", "c.avi"])
def test_a_clip_without_a_frame_is_refused(name: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as out:
        stream = out.add_stream("mjpeg", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        out.start_encoding()
    with pytest.raises(OptionError, match=rf"{name} (holds no frame|is damaged)"):
        read_video(tmp_path / name)
