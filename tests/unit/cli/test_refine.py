"""`kinescribe refine` with small random models: what it makes, says and refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goldens import folder
from kinescribe.media.read import read_recipe, read_video
from kinescribe.media.write import write_video

MODELS = folder("image_and_video_to_video")
I2V, V2V = (str(MODELS / name) for name in ("i2v", "v2v"))
T2V = str(folder("text_to_video/diffusers"))
FAST = ("--steps", "2")
Cli = Callable[..., Any]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of 4 frames of 40 x 24 pixels in the working folder."""
    return Path(shutil.copy(MODELS / "v2v" / "test.mp4", tmp_path / "clip.mp4"))


def made(place: Path) -> list[str]:
    """What a command left in its folder, beside what was there."""
    return sorted(path.name for path in place.iterdir() if path.name not in (".home", "clip.mp4"))


@pytest.mark.usefixtures("clip")
def test_a_clip_is_refined_beside_itself_and_what_was_cropped_is_told(real: Cli, tmp_path: Path) -> None:
    done = real("refine", "clip.mp4", "a panda", "--model", V2V, *FAST, "--seed", "3", "--sheet")
    assert done.code == 0 and made(tmp_path) == ["clip-refined.mp4", "clip-refined.png"]
    path, _, facts = done.out.strip().partition("  ")
    assert path == str(tmp_path / "clip-refined.mp4") and facts.startswith("64x48, 4 frames, seed 3, ")
    assert "motion" not in facts
    assert "reading the clip" in done.err
    assert "clip.mp4: cropped 10.0% at the left and 10.0% at the right" in done.err
    recipe = read_recipe(path)
    assert recipe["kind"] == "video-to-video" and recipe["source"]["name"] == "clip.mp4"  # type: ignore[index]
    assert recipe["request"]["prompt"] == "a panda"  # type: ignore[index]


@pytest.mark.usefixtures("clip")
def test_no_file_is_overwritten_unless_told_and_never_the_clip(real: Cli, tmp_path: Path) -> None:
    before = (tmp_path / "clip.mp4").read_bytes()
    for _ in range(2):
        assert real("refine", "clip.mp4", "--model", V2V, *FAST).code == 0
    assert real("refine", "clip.mp4", "--model", V2V, *FAST, "--overwrite").code == 0
    assert made(tmp_path) == ["clip-refined-1.mp4", "clip-refined.mp4"]
    done = real("refine", "clip.mp4", "--model", V2V, *FAST, "-o", "clip.mp4")
    assert done.code == 6 and (tmp_path / "clip.mp4").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.webm", "a-refined.webm"),
        ("a.GIF", "a-refined.GIF"),
        ("a.mov", "a-refined.mp4"),
        ("v1.2/", "v1.2-refined"),
    ],
)
def test_the_format_stays_where_it_can_be_written(
    real: Cli, clip: Path, tmp_path: Path, name: str, expected: str
) -> None:
    if name == "a.mov":
        clip.rename(tmp_path / name)
    else:
        frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
        write_video(frames, 8, tmp_path / name if not name.endswith("/") else f"{tmp_path}/{name}")
    done = real("refine", name, "--model", V2V, *FAST)
    assert done.code == 0 and (tmp_path / expected).exists()
    assert read_video(tmp_path / expected).size == (64, 48)


@pytest.mark.usefixtures("clip")
def test_a_text_to_video_model_refines_too_at_the_clips_own_size(real: Cli) -> None:
    done = real("refine", "clip.mp4", "a red ball", "--model", T2V, *FAST, "--strength", "0.5", "--json")
    facts = json.loads(done.out)
    assert (facts["width"], facts["height"], facts["frames"]) == (40, 24, 4)


@pytest.mark.usefixtures("clip")
def test_a_clip_longer_than_a_window_keeps_all_of_its_frames(real: Cli) -> None:
    done = real("refine", "clip.mp4", "--model", V2V, *FAST, "--window", "2", "--overlap", "1", "--json")
    assert json.loads(done.out)["frames"] == 4 and "denoising in 3 windows: step 2 of 2" in done.err


@pytest.mark.usefixtures("clip")
def test_the_usage_policy_and_strictness_judge_the_prompt_before_anything_is_loaded(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "words.txt").write_text("zebra\n")
    common = ("refine", "clip.mp4", "--model", V2V, *FAST, "-q")
    assert real(*common, "a zebra", "--policy", "words.txt").code == 8
    done = real(*common, "wave " * 300, "--strict-prompt")
    assert done.code == 2 and "longer than" in done.err


@pytest.mark.usefixtures("clip")
def test_without_a_model_the_embedded_one_is_taken(real: Cli) -> None:
    facts = json.loads(real("refine", "clip.mp4", "a ball", "--steps", "1", "--json").out)
    assert (facts["model"], facts["width"], facts["frames"]) == ("papercut-refine", 256, 4)


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", I2V), "video-to-video was asked"),
        (("a", "b c", "--model", V2V), "2 prompts"),
        (("--model", V2V, "--strength", "0"), "strength=0"),
        (("--model", V2V, "--strength", "1.5"), "strength=1.5"),
        (("--model", V2V, "--strength", "nan"), "strength"),
        (("--model", V2V, "--size", "0x0"), "width=0"),
        (("--model", V2V, "--size", "65x64"), "64 or 72"),
        (("--model", V2V, "--size", "100000x100000"), "width=100000"),
        (("--model", V2V, "--fps", "-1"), "fps=-1"),
        (("--model", V2V, "--fps", "nan"), "fps"),
        (("--model", V2V, "--window", "4", "--overlap", "3"), "overlap=3"),
        (("--model", V2V, "--window", "0"), "window=0"),
        (("--model", V2V, "--frames", "8"), "--frames"),
        (("--model", V2V, "-o", "clip.mov"), ".mp4"),
    ],
)
def test_what_cannot_be_is_exit_2_before_anything_is_loaded(
    real: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    done = real("refine", "clip.mp4", *arguments, "-q")
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1
    assert done.out == "" and made(tmp_path) == []


def hostile_clips(address: str) -> dict[str, bytes]:
    good = (MODELS / "v2v" / "test.mp4").read_bytes()
    return {
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n".encode(),
        "list.m3u8": f"#EXTM3U\n#EXTINF:1,\n{address}/a.ts\n".encode(),
        "several.mp4": f"ffconcat version 1.0\nfile '{address}/a.mp4'\n".encode(),
        "description.mp4": f"v=0\nc=IN IP4 127.0.0.1\nm=video 9 {address}\n".encode(),
        "truncated.mp4": good[: len(good) // 3],
        "empty.mp4": b"",
        "text.mp4": b"not a clip at all",
        "sound.wav": b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + bytes(32),
    }


@pytest.mark.parametrize("name", hostile_clips(""))
def test_a_hostile_clip_is_exit_2_without_a_file_or_a_connection(
    real: Cli, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("kinescribe.pipelines.load.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / name).write_bytes(hostile_clips(server.address)[name])
    done = real("refine", name, "--model", V2V, *FAST, "-q")
    assert done.code == 2 and done.err.count("\n") == 1 and "Traceback" not in done.err
    assert made(tmp_path) == [name] and server.hits == []


@pytest.mark.parametrize(
    "name", ["http://{host}/x.mp4", "concat:a.mp4|b.mp4", "pipe:0", "file:clip.mp4", "", "."]
)
def test_a_name_is_the_name_of_a_file(real: Cli, tmp_path: Path, server: Any, name: str) -> None:
    asked = name.format(host=server.address.removeprefix("http://"))
    done = real("refine", asked, "--model", V2V, *FAST, "-q")
    assert done.code == 2 and done.err.count("\n") == 1
    assert made(tmp_path) == [] and server.hits == []


@pytest.mark.slow
def test_generate_refines_each_clip_and_a_list_goes_on_where_it_stopped(real: Cli, tmp_path: Path) -> None:
    two = (
        "--model",
        T2V,
        "--refine-model",
        V2V,
        "--refine-steps",
        "2",
        "--size",
        "64x64",
        "--frames",
        "2",
        *FAST,
    )
    assert real("generate", "a red ball", *two, "-o", "one.mp4").code == 0
    assert read_video(tmp_path / "one.mp4").size == (64, 48)
    (tmp_path / "list.txt").write_text("a red ball\na fish\n")
    done = real("generate", "--prompts", "list.txt", *two)
    assert done.code == 0 and done.err.count("loading") == 2, "both models once"
    seeds = [read_recipe(file)["request"]["seed"] for file in sorted((tmp_path / "list").iterdir())]  # type: ignore[index]
    assert seeds == [0, 1]
    again = real("generate", "--prompts", "list.txt", *two)
    assert again.code == 0 and "0 made, 2 done before" in again.err
    other = real("generate", "--prompts", "list.txt", *two, "--refine-strength", "0.5")
    assert other.code == 0 and "2 made, 0 done before" in other.err
