"""`kinescribe animate` with small random models: what it makes, says and refuses."""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from goldens import folder
from kinescribe.media.read import read_recipe, read_video
from kinescribe.media.video import Video
from kinescribe.options import VideoToVideo
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline

MODELS = folder("image_and_video_to_video")
T2V = str(folder("text_to_video") / "diffusers")
I2V, V2V, XL = (str(MODELS / name) for name in ("i2v", "v2v", "i2vgen-xl"))
SMALL = ("--size", "64x64", "--steps", "2", "--frames", "3")
Cli = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture in the working folder."""
    return Path(shutil.copy(MODELS / "i2v" / "test_a.png", tmp_path / "boat.png"))


def made(place: Path) -> list[str]:
    """What a command left in its folder, beside what was there."""
    return sorted(path.name for path in place.iterdir() if path.name not in (".home", "boat.png"))


@pytest.mark.usefixtures("picture")
def test_a_picture_becomes_a_clip_beside_it_and_says_how_alive_it_is(real: Cli, tmp_path: Path) -> None:
    done = real("animate", "boat.png", "the boat rocks", "--model", XL, *SMALL, "--seed", "7")
    assert done.code == 0 and made(tmp_path) == ["boat.mp4"]
    path, _, facts = done.out.strip().partition("  ")
    assert path == str(tmp_path / "boat.mp4")
    assert facts.startswith("64x64, 3 frames, seed 7, ") and ", first frame like the picture 0." in facts
    assert facts.partition(", motion ")[2].replace(".", "").isdigit()
    assert "reading the picture" in done.err and "step 2 of 2" in done.err
    assert "boat.png: cropped 21.9% at the left and 21.9% at the right" in done.err
    assert read_video(path).frames.shape == (3, 64, 64, 3)
    recipe = read_recipe(path)
    assert recipe["request"]["prompt"] == "the boat rocks" and recipe["source"]["name"] == "boat.png"  # type: ignore[index]


@pytest.mark.usefixtures("picture")
def test_json_has_both_figures_for_a_model_that_begins_with_the_picture(real: Cli) -> None:
    facts = json.loads(real("animate", "boat.png", "--model", XL, *SMALL, "--json").out)
    assert 0 <= facts["similarity"] <= 1 and facts["motion"] > 0 and facts["kind"] == "image-to-video"
    facts = json.loads(real("animate", "boat.png", "--model", I2V, *SMALL, "--json").out)
    assert "similarity" not in facts and facts["motion"] > 0
    still = ("--size", "64x64", "--steps", "2", "--frames", "1", "--json")
    facts = json.loads(real("animate", "boat.png", "--model", XL, *still).out)
    assert "motion" not in facts and "similarity" in facts


@pytest.mark.usefixtures("picture")
def test_no_file_is_overwritten_unless_told_and_never_the_picture(real: Cli, tmp_path: Path) -> None:
    before = (tmp_path / "boat.png").read_bytes()
    common = ("animate", "boat.png", "--model", I2V, *SMALL)
    for _ in range(2):
        assert real(*common, "--sheet").code == 0
    assert made(tmp_path) == ["boat-1.mp4", "boat-1.png", "boat-sheet.png", "boat.mp4"]
    assert real(*common, "--sheet", "--overwrite").code == 0
    assert made(tmp_path) == ["boat-1.mp4", "boat-1.png", "boat-sheet.png", "boat.mp4"]
    done = real(*common, "-o", "boat.mp4")
    assert done.code == 6 and "--overwrite" in done.err
    assert (tmp_path / "boat.png").read_bytes() == before


@pytest.mark.usefixtures("picture")
def test_no_metadata_leaves_no_recipe(real: Cli, tmp_path: Path) -> None:
    assert real("animate", "boat.png", "--model", I2V, *SMALL, "--no-metadata").code == 0
    assert b"AI-generated" not in (tmp_path / "boat.mp4").read_bytes()


@pytest.mark.usefixtures("picture")
def test_the_usage_policy_and_strictness_judge_the_prompt_before_anything_is_loaded(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "words.txt").write_text("zebra\n")
    common = ("animate", "boat.png", "--model", XL, *SMALL, "-q")
    assert real(*common, "a zebra", "--policy", "words.txt").code == 8
    done = real(*common, "wave " * 300, "--strict-prompt")
    assert done.code == 2 and "longer than" in done.err and done.err.endswith("(--strict-prompt)\n")


@pytest.mark.usefixtures("picture")
def test_without_a_model_the_embedded_one_is_taken(real: Cli) -> None:
    done = real("animate", "boat.png", "a white boat", "--steps", "1", "--frames", "2", "--json")
    facts = json.loads(done.out)
    assert (facts["model"], facts["width"], facts["frames"]) == ("papercut-animate", 128, 2)


@pytest.mark.usefixtures("picture")
def test_behind_a_published_model_the_second_one_has_to_be_named(real: Cli, tmp_path: Path) -> None:
    done = real("animate", "boat.png", "--model", I2V, "--refine")
    assert done.code == 2 and done.err.count("\n") == 1 and made(tmp_path) == []
    for words in ("papercut-refine", "--refine-model modelscope-video-to-video", "models pull", "FOLDER"):
        assert words in done.err


@pytest.mark.usefixtures("picture")
def test_a_known_model_that_is_not_here_is_exit_3_with_the_command_that_gets_it(real: Cli) -> None:
    done = real("animate", "boat.png", "--model", "i2vgen-xl")
    assert done.code == 3 and "kinescribe models pull i2vgen-xl" in done.err and done.err.count("\n") == 1


@pytest.mark.usefixtures("picture")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", V2V), "video-to-video"),
        (("--model", "papercut"), "text-to-video"),
        (("a boat", "--model", I2V), "reads no text"),
        (("a boat", "a second one", "--model", XL), "2 prompts"),
        (("--model", XL, "--size", "0x0"), "width=0"),
        (("--model", XL, "--size", "65x64"), "64 or 72"),
        (("--model", XL, "--size", "100000x100000"), "width=100000"),
        (("--model", XL, "--size=-1x8"), "WIDTHxHEIGHT"),
        (("--model", XL, "--size", "1e9x1"), "WIDTHxHEIGHT"),
        (("--model", XL, "--frames", "1000000"), "frames=1000000"),
        (("--model", XL, "--frames", "0"), "frames=0"),
        (("--model", XL, "--fps", "0"), "fps=0"),
        (("--model", XL, "--fps", "nan"), "fps"),
        (("--model", XL, "--condition-fps", "0"), "condition_fps=0"),
        (("--model", XL, "--condition-fps", "2.5"), "whole number"),
        (("--model", XL, "--fit", "bend"), "stretch"),
        (("--model", XL, "--strength", "0.5"), "--strength"),
        (("--model", XL, "-o", "boat.png"), ".mp4"),
        (("--model", XL, "--refine-model", "papercut", "--refine-strength", "2"), "strength=2"),
        (("--model", XL, "--refine-model", I2V), "video-to-video was asked"),
        (("--model", XL, "--refine-model", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_is_exit_2_before_anything_is_loaded(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    done = real("animate", "boat.png", *arguments, "-q")
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1
    assert done.out == "" and made(tmp_path) == []


def png(width: int, height: int) -> bytes:
    """A black PNG of any size in a few bytes for each million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hostile_pictures(address: str) -> dict[str, bytes]:
    good = (MODELS / "i2v" / "test_a.png").read_bytes()
    return {
        "bomb.png": png(20000, 20000),
        "truncated.png": good[: len(good) // 2],
        "empty.png": b"",
        "text.png": b"not a picture",
        "drawing.svg": f'<svg xmlns="x"><image href="{address}/a"/></svg>'.encode(),
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "list.png": f"#EXTM3U\n#EXTINF:1,\n{address}/a.ts\n".encode(),
        "page.png": f"<html><meta http-equiv=refresh content='0;{address}'>".encode(),
        "thin.png": png(4, 4),
        "long.png": png(4000, 16),
    }


@pytest.mark.parametrize("name", hostile_pictures(""))
def test_a_hostile_picture_is_exit_2_without_a_file_or_a_connection(
    real: Cli, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / name).write_bytes(hostile_pictures(server.address)[name])
    done = real("animate", name, "--model", XL, *SMALL, "-q")
    assert done.code == 2 and done.err.count("\n") == 1 and "Traceback" not in done.err
    assert made(tmp_path) == [name] and server.hits == []


@pytest.mark.parametrize(
    "name",
    ["http://{host}/x.png", "concat:a.png|b.png", "pipe:0", "file:boat.png", "a\0b.png", "x" * 300, "", "."],
)
def test_a_name_is_the_name_of_a_file(real: Cli, tmp_path: Path, server: Any, name: str) -> None:
    asked = name.format(host=server.address.removeprefix("http://"))
    done = real("animate", asked, "--model", XL, *SMALL, "-q")
    assert done.code == 2 and done.err.count("\n") == 1
    assert made(tmp_path) == [] and server.hits == []


def test_names_that_look_like_addresses_or_flags_are_files_too(
    real: Cli, tmp_path: Path, picture: Path, server: Any
) -> None:
    odd = tmp_path / "-a:b.png"
    picture.rename(odd)
    target = f"{server.address}/x.mp4"
    done = real("animate", "--model", I2V, *SMALL, "-o", target, "--", "-a:b.png")
    assert done.code == 0 and server.hits == []
    assert Path(done.out.partition("  ")[0]) == tmp_path / target.replace("//", "/")
    assert os.path.getsize(tmp_path / target) > 0  # noqa: PTH202 - as the system reads the name
    assert real("animate", "--model", I2V, *SMALL, "--", "-a:b.png").code == 0
    assert (tmp_path / "-a:b.mp4").is_file()


@pytest.mark.parametrize("kind", ["cmyk.jpg", "deep.png", "turned.jpg", "moving.gif", "clear.webp"])
def test_unusual_pictures_are_taken(real: Cli, tmp_path: Path, kind: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(colours)
    if kind == "cmyk.jpg":
        image.convert("CMYK").save(tmp_path / kind)
    elif kind == "deep.png":
        Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(tmp_path / kind)
    elif kind == "turned.jpg":
        tags = Image.Exif()
        tags[0x0112] = 6
        image.save(tmp_path / kind, exif=tags)
    elif kind == "moving.gif":
        image.save(tmp_path / kind, save_all=True, append_images=[image.rotate(90)])
    else:
        image.convert("RGBA").save(tmp_path / kind)
    done = real("animate", kind, "--model", I2V, *SMALL)
    assert done.code == 0 and (tmp_path / kind).with_suffix(".mp4").is_file()
    assert ("2 pictures, the first is used" in done.err) == (kind == "moving.gif")


@pytest.mark.usefixtures("picture")
def test_two_stages_are_one_clip_with_one_report(real: Cli, tmp_path: Path) -> None:
    two = ("--model", XL, "--refine", "--refine-model", V2V, "--refine-steps", "3", "--refine-size", "96x64")
    done = real("animate", "boat.png", "a boat", *two, *SMALL, "--json")
    assert done.code == 0 and made(tmp_path) == ["boat.mp4"]
    facts = json.loads(done.out)
    assert (facts["width"], facts["height"], facts["kind"]) == (96, 64, "video-to-video")
    assert 0 <= facts["similarity"] <= 1 and facts["motion"] > 0
    assert "first stage, denoising: step 2 of 2" in done.err
    assert "second stage, denoising: step 3 of 3" in done.err
    recipe = read_recipe(tmp_path / "boat.mp4")
    assert recipe["request"]["seed"] == recipe["before"]["request"]["seed"] == facts["seed"]  # type: ignore[index]


@pytest.mark.usefixtures("picture")
def test_a_second_stage_that_fails_leaves_the_first_clip_under_a_name_of_its_own(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(VideoToVideoPipeline, "stream", stream)
    done = real("animate", "boat.png", "--model", I2V, "--refine-model", V2V, *SMALL)
    assert (
        done.code == 4
        and f"the clip of the first stage is kept: {tmp_path / 'boat-unrefined.mp4'}" in done.err
    )
    assert made(tmp_path) == ["boat-unrefined.mp4"]
    assert read_recipe(tmp_path / "boat-unrefined.mp4")["kind"] == "image-to-video"


def test_in_a_list_too_the_first_clip_of_a_second_stage_that_fails_is_kept(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VideoToVideoPipeline.stream

    def stream(pipe: VideoToVideoPipeline, clip: Video, request: VideoToVideo) -> Any:
        if "cat" in request.prompt:
            raise MemoryError
        return whole(pipe, clip, request)

    monkeypatch.setattr(VideoToVideoPipeline, "stream", stream)
    two = ("--refine-model", V2V, "--refine-steps", "1", "--refine-size", "48x32")
    done = real("generate", "a boat", "a cat", "--model", T2V, "-o", "clips/", *two, *SMALL)
    assert done.code == 1
    assert made(tmp_path / "clips") == ["clip-1.mp4", "clip-2-unrefined.mp4"]
    assert read_recipe(tmp_path / "clips" / "clip-2-unrefined.mp4")["kind"] == "text-to-video"


@pytest.mark.usefixtures("picture")
def test_an_interrupt_between_the_stages_leaves_no_file(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoToVideoPipeline, "stream", stream)
    done = real("animate", "boat.png", "--model", I2V, "--refine-model", V2V, *SMALL)
    assert done.code == 130 and made(tmp_path) == []
