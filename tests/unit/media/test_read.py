import json
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from kinescribe.errors import OptionError
from kinescribe.media.read import as_video, read_recipe, read_video
from kinescribe.media.recipe import Recipe
from kinescribe.media.source import sniff
from kinescribe.media.video import Video
from kinescribe.media.write import write_video

PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.mp4", b"", "empty"),
        ("list.mp4", PLAYLIST, "playlist"),
        ("list.m3u8", PLAYLIST, "playlist"),
        ("page.mp4", b"<html>", "web page, no video"),
        ("pointer.mp4", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("bom.mp4", b"\xef\xbb\xbf" + PLAYLIST, "playlist"),
        ("text.mp4", b"hello", "is no video"),
        ("short.mp4", b"\x00\x00\x00\x18ftypisom", "damaged"),
        ("noise.webm", b"\x1aE\xdf\xa3" + b"x" * 500, "damaged"),
        ("half.gif", b"GIF89a\x10", "damaged"),
    ],
)
def test_what_is_no_video_is_refused_with_the_reason(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    for read in (read_video, read_recipe):
        with pytest.raises(OptionError, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["missing.mp4", "a\0b.mp4", "http://127.0.0.1/x.mp4", "x" * 400, "pipe:0", "concat:a|b", ""]
)
def test_a_missing_file_is_an_option_error(name: str) -> None:
    with pytest.raises(OptionError, match="no such file"):
        read_video(name)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_clip_is_no_crash(part: float, video: Video, tmp_path: Path) -> None:
    for name in ("c.mp4", "c.webm", "c.gif", "c.webp"):
        data = video.save(tmp_path / name, overwrite=True).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * part)])
        try:
            read_video(tmp_path / name)
        except OptionError as error:
            assert "\n" not in str(error)


def test_the_name_does_not_choose_the_reader(video: Video, tmp_path: Path) -> None:
    path = video.save(tmp_path / "c.mp4").rename(tmp_path / "c.m3u8")
    assert len(read_video(path).frames) == len(video.frames)
    assert sniff(path.read_bytes()[:64]) == "mp4"


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "s.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(OptionError, match="sound"):
        read_video(tmp_path / "s.mp4")


def test_an_animation_with_uneven_times_is_spread_at_its_shortest_time(tmp_path: Path) -> None:
    images = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 300, 100])
    back = read_video(tmp_path / "a.gif")
    assert back.fps == 10 and len(back.frames) == 5
    assert np.array_equal(back.frames[1], back.frames[3]) and not np.array_equal(
        back.frames[0], back.frames[1]
    )


def test_frames_of_different_sizes_are_refused(tmp_path: Path) -> None:
    for index, side in enumerate((8, 16), start=1):
        Image.new("RGB", (side, side)).save(tmp_path / f"frame-000{index}.png")
    with pytest.raises(OptionError, match="different sizes"):
        read_video(tmp_path)


def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (6000, 6000)).save(tmp_path / "bomb.png")
    with pytest.raises(OptionError, match="million pixels"):
        read_video(tmp_path / "bomb.png")


def hostile(recipe: Recipe) -> list[dict[str, object]]:
    """Recipes of a stranger: each breaks one rule."""
    good = recipe.as_dict()
    request = dict(good["request"])  # type: ignore[call-overload]
    return [
        {**good, "model": "../../etc/passwd"},
        {**good, "model": "/home/me/model"},
        {**good, "model": "x" * 200},
        {**good, "model_hash": "not a hash"},
        {**good, "output": "/etc/cron.d/x"},
        {**good, "note": "made by hand"},
        {**good, "request": {**request, "output": "x.mp4"}},
        {**good, "request": {**request, "width": 100_000}},
        {**good, "request": {**request, "steps": 10**9}},
        {**good, "request": {**request, "fps": float("nan")}},
        {**good, "request": {**request, "seed": -1}},
        {**good, "request": {**request, "prompt": "a\0b"}},
        {**good, "request": {**request, "prompt": "x" * 70_000}},
        {**good, "request": {**request, "prompt": ""}},
        {**good, "torch": "2; import os"},
        {"request": request},
        {},
    ]


def test_a_hostile_recipe_is_refused_and_the_clip_still_reads(
    ball: np.ndarray, recipe: Recipe, tmp_path: Path
) -> None:
    for bad in hostile(recipe):
        path = write_video(ball[:2], 8, tmp_path / "c.mp4", recipe=bad, overwrite=True)
        with pytest.raises(OptionError) as caught:
            read_recipe(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
        assert read_video(path).recipe == {}


def test_a_comment_that_is_no_json_is_refused(ball: np.ndarray, tmp_path: Path) -> None:
    for text in ("hello", "[" * 60_000, '"', json.dumps([1])):
        with av.open(str(tmp_path / "c.mkv"), "w") as out:
            out.metadata["comment"] = text
            stream = out.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(ball[0])))
            out.mux(stream.encode(None))
        with pytest.raises(OptionError, match="recipe"):
            read_recipe(tmp_path / "c.mkv")


def test_a_clip_filmed_upright_is_turned_upright(tmp_path: Path) -> None:
    clip = np.zeros((2, 32, 64, 3), np.uint8)
    clip[:, :16, :16] = 255  # white top left: after a quarter turn clockwise it is top right
    path = write_video(clip, 8, tmp_path / "c.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 40
    data[matrix : matrix + 20] = struct.pack(">5i", 0, 1 << 16, 0, -(1 << 16), 0)
    path.write_bytes(data)
    turned = read_video(path).frames
    assert turned.shape == (2, 64, 32, 3)
    assert turned[0, 4, 28].min() > 240 and turned[0, 4, 4].max() < 16


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.webm", "list.txt"])
def test_a_playlist_never_opens_its_addresses(
    name: str, tmp_path: Path, counted: tuple[int, list[int]]
) -> None:
    port, hits = counted
    address = f"http://127.0.0.1:{port}/x.ts"
    (tmp_path / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
    for read in (read_video, read_recipe):
        with pytest.raises(OptionError, match="playlist"):
            read(tmp_path / name)
    assert hits == []


def test_every_usual_form_becomes_a_video(video: Video, ball: np.ndarray, tmp_path: Path) -> None:
    path = video.save(tmp_path / "c.webp")
    assert as_video(video) is video
    assert np.array_equal(as_video(path).frames, read_video(str(path)).frames)
    pictures = [Image.fromarray(frame) for frame in ball]
    for form in (ball, ball / 255, torch.from_numpy(ball), list(ball), pictures, tuple(pictures)):
        made = as_video(form, 12)
        assert np.array_equal(made.frames, ball) and made.fps == 12 and made.recipe == {}
    assert as_video(ball).fps == 8


def test_a_given_rate_replaces_that_of_a_clip(video: Video, tmp_path: Path) -> None:
    assert as_video(video, 24).fps == as_video(video.save(tmp_path / "c.mp4"), 24.0).fps == 24
    assert as_video(video, 24).recipe == video.recipe
    for fps in (0, -1, float("nan"), float("inf"), 1e6):
        with pytest.raises(OptionError, match="fps="):
            as_video(video, fps)


@pytest.mark.parametrize("given", [None, 3, b"mp4", object(), {"frames": 3}])
def test_what_is_no_clip_is_named(given: object) -> None:
    with pytest.raises(OptionError, match=f"of type {type(given).__name__}"):
        as_video(given)


def test_frames_as_clear_pictures_come_on_white(ball: np.ndarray) -> None:
    clear = Image.fromarray(np.zeros((16, 16, 4), np.uint8))
    assert (as_video([clear, clear]).frames == 255).all()
    with pytest.raises(OptionError, match="different sizes"):
        as_video([clear, Image.fromarray(ball[0])])


def test_clear_parts_of_an_animation_become_white(tmp_path: Path) -> None:
    images = [Image.new("RGBA", (16, 16), (index, 0, 0, 0)) for index in (10, 200)]
    for name in ("a.webp", "a.gif"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=100, disposal=2)
        assert (read_video(tmp_path / name).frames == 255).all()


def test_a_clip_of_ours_has_nothing_to_tell(video: Video, tmp_path: Path) -> None:
    for name in ("c.mp4", "c.webm", "c.gif", "c.webp", "folder/"):
        assert read_video(video.save(tmp_path / name)).notes == ()
