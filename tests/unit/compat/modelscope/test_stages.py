import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from goldens import expected, folder
from kinescribe.compat.modelscope import ImageToVideo, OutputKeys, Tasks, VideoToVideo, pipeline
from kinescribe.errors import KinescribeWarning, OptionError
from kinescribe.media.read import read_recipe, read_video
from kinescribe.media.write import write_video
from kinescribe.pipelines.image_to_video import ImageToVideoPipeline
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline

pytestmark = pytest.mark.filterwarnings("ignore")

FIRST = folder("image_and_video_to_video/i2v")
SECOND = folder("image_and_video_to_video/v2v")
WORDS = "A panda is surfing on the sea"


@pytest.fixture(scope="module")
def first() -> ImageToVideo:
    made = pipeline(Tasks.image_to_video, str(FIRST), device="cpu")
    assert isinstance(made, ImageToVideo)
    return made


@pytest.fixture(scope="module")
def second() -> VideoToVideo:
    made = pipeline(Tasks.video_to_video, str(SECOND), device="cpu")
    assert isinstance(made, VideoToVideo)
    return made


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The clip of the stored run, exact: a folder of frames."""
    return write_video(expected("image_and_video_to_video")["v2v.video_u8"].numpy(), 8.0, tmp_path / "source")


def frames(result: Any) -> np.ndarray:
    return read_video(result[OutputKeys.OUTPUT_VIDEO]).frames


def off(made: np.ndarray, stored: str) -> tuple[int, float]:
    """Greatest difference to a stored run, and how many values differ at all."""
    difference = np.abs(made.astype(int) - expected("image_and_video_to_video")[stored].numpy())
    return int(difference.max()), float((difference > 0).mean())


def test_the_published_call_gives_the_frames_of_the_first_stage(first: ImageToVideo, tmp_path: Path) -> None:
    torch.manual_seed(8888)
    most, share = off(frames(first(str(FIRST / "test_a.png"), output_video=tmp_path / "a")), "i2v.frames_u8")
    assert most <= 1 and share < 0.005


def test_the_published_call_gives_the_frames_of_the_second_stage(
    second: VideoToVideo, clip: Path, tmp_path: Path
) -> None:
    torch.manual_seed(8888)
    made = frames(second({"video_path": str(clip), "text": WORDS}, output_video=tmp_path / "b"))
    most, share = off(made, "v2v.frames_u8")
    assert most <= 1 and share < 0.01


def test_the_cards_chain_runs_but_for_import_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinescribe.compat.modelscope.outputs import OutputKeys
    from kinescribe.compat.modelscope.pipelines import pipeline

    monkeypatch.chdir(tmp_path)
    shutil.copy(FIRST / "test_b.png", "test.png")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", KinescribeWarning)
        pipe1 = pipeline(task="image-to-video", model=str(FIRST), model_revision="v1.1.0", device="cuda:0")
        pipe2 = pipeline(task="video-to-video", model=str(SECOND), model_revision="v1.1.0", device="cuda:0")
    fallen_back = ["device='cuda:0': no GPU of that kind" in str(warning.message) for warning in said]
    assert any(fallen_back) is not torch.cuda.is_available()
    IMG_PATH = "test.png"  # noqa: N806 - as the card has it
    output_video_path = pipe1(IMG_PATH, output_video="./i2v_output.mp4")[OutputKeys.OUTPUT_VIDEO]
    p_input = {"video_path": output_video_path}
    new_output_video_path = pipe2(p_input, output_video="./v2v_output.mp4")[OutputKeys.OUTPUT_VIDEO]
    assert (output_video_path, new_output_video_path) == ("./i2v_output.mp4", "./v2v_output.mp4")
    made = [read_video(name) for name in (output_video_path, new_output_video_path)]
    assert [video.frames.shape for video in made] == [(4, 64, 64, 3), (4, 48, 64, 3)]
    assert [video.fps for video in made] == [8, 8]


def test_without_a_name_the_bytes_of_an_mp4_come_back(
    first: ImageToVideo, second: VideoToVideo, clip: Path, tmp_path: Path
) -> None:
    for made in (first(FIRST / "test_b.png", steps=1), second({"video_path": clip}, steps=2)):
        assert isinstance(made, dict)
        data = made[OutputKeys.OUTPUT_VIDEO]
        assert isinstance(data, bytes) and data[4:8] == b"ftyp"
        (tmp_path / "c.mp4").write_bytes(data)
        assert len(read_video(tmp_path / "c.mp4").frames) == 4


def test_the_seed_of_the_folder_fixes_the_first_call_and_not_the_second(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(1)
        door = pipeline("image-to-video", str(FIRST), device="cpu")
        made.append([frames(door(FIRST / "test_a.png", output_video=tmp_path / "x")) for _ in range(2)])
    assert off(made[0][0], "i2v.frames_u8")[0] <= 1
    assert np.array_equal(made[0][0], made[1][0]) and np.array_equal(made[0][1], made[1][1])
    assert not np.array_equal(made[0][0], made[0][1])


def test_a_folder_without_a_seed_leaves_torchs_state_alone(tmp_path: Path) -> None:
    copy = shutil.copytree(FIRST, tmp_path / "m")
    document = json.loads((copy / "configuration.json").read_text())
    del document["model"]["model_args"]["seed"]
    (copy / "configuration.json").write_text(json.dumps(document))
    torch.manual_seed(7)
    wanted = torch.randn(3)
    torch.manual_seed(7)
    pipeline("image-to-video", str(copy), device="cpu")
    assert torch.equal(torch.randn(3), wanted)


def test_a_seed_makes_the_clip_that_the_pipeline_makes_with_it(
    first: ImageToVideo, second: VideoToVideo, clip: Path, tmp_path: Path
) -> None:
    picture = FIRST / "test_b.png"
    made = frames(first(picture, seed=7, output_video=tmp_path / "a"))
    inner = ImageToVideoPipeline(first._inner.components, strict=True)
    assert np.array_equal(made, inner(picture, seed=7, spacing="modelscope_strict").frames)
    torch.manual_seed(7)  # on a processor that is the original's noise too
    assert np.array_equal(made, frames(first(picture, output_video=tmp_path / "b")))
    options = {"seed": 7, "steps": 2}
    made = frames(second({"video_path": clip, "text": WORDS, **options}, output_video=tmp_path / "c"))
    inner2 = VideoToVideoPipeline(second._inner.components, strict=True)
    assert np.array_equal(made, inner2(clip, WORDS, fit="stretch", **options).frames)


def test_noise_of_the_global_generator_leaves_no_seed_in_the_recipe(
    first: ImageToVideo, second: VideoToVideo, clip: Path, tmp_path: Path
) -> None:
    for door, item in ((first, FIRST / "test_b.png"), (second, {"video_path": clip})):
        seeds = []
        for options in ({}, {"seed": 3}):
            made = door(item, steps=2, output_video=tmp_path / "a.gif", **options)
            request = read_video(made["output_video"]).recipe["request"]  # type: ignore[call-overload]
            seeds.append(request.get("seed"))  # type: ignore[attr-defined]
        assert seeds == [None, 3]


def test_arrays_come_in_the_order_of_opencv(first: ImageToVideo, tmp_path: Path) -> None:
    picture = np.asarray(Image.open(FIRST / "test_a.png").convert("RGB"))
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    made = []
    for form in (
        str(FIRST / "test_a.png"),
        Image.fromarray(picture),
        picture[..., ::-1],
        np.concatenate([picture[..., ::-1], alpha], -1),
        {"image": picture[..., ::-1]},
        picture,
    ):
        torch.manual_seed(1)
        made.append(frames(first(form, steps=2, output_video=tmp_path / "a")))
    assert all(np.array_equal(one, made[0]) for one in made[1:5])
    assert not np.array_equal(made[5], made[0])


def test_what_the_originals_cannot_do_works(
    first: ImageToVideo, second: VideoToVideo, clip: Path, tmp_path: Path
) -> None:
    made = first(
        {"image": FIRST / "test_b.png", "seed": 1, "max_frames": 2, "target_fps": 4, "guide_scale": 2.0},
        steps=3, fps=12, height=64, width=128, output_video=str(tmp_path / "a.webm"),
    )  # fmt: skip
    video = read_video(made["output_video"])  # type: ignore[call-overload]
    assert (video.frames.shape, video.fps) == ((2, 64, 128, 3), 12)
    request = video.recipe["request"]
    assert (request["condition_fps"], request["guidance"], request["steps"]) == (4, 2.0, 3)  # type: ignore[index]
    made = second(
        {"video_path": clip, "text": WORDS, "strength": 0.3, "fit": "crop"},
        steps=2, sampler="heun", height=80, width=128, fps=4, output_video=tmp_path / "b.gif",
    )  # fmt: skip
    video = read_video(made["output_video"])  # type: ignore[call-overload]
    assert (video.frames.shape, video.fps) == ((4, 80, 128, 3), 4)
    assert video.recipe["request"]["strength"] == 0.3  # type: ignore[index]


def test_lists_are_made_item_by_item(
    first: ImageToVideo, second: VideoToVideo, clip: Path, tmp_path: Path
) -> None:
    pictures = [FIRST / "test_a.png", Image.open(FIRST / "test_b.png")]
    made = first(pictures, steps=1, output_video=tmp_path / "a.gif")
    assert [Path(one["output_video"]).name for one in made] == ["a-1.gif", "a-2.gif"]  # type: ignore[union-attr,arg-type]
    assert len(second([{"video_path": clip}, {"video_path": clip, "text": "a cat"}], steps=2)) == 2


def test_a_longer_clip_is_made_anew_to_its_end(second: VideoToVideo, tmp_path: Path) -> None:
    long = np.random.default_rng(0).integers(0, 256, (7, 24, 40, 3), dtype=np.uint8)
    source = write_video(long, 8.0, tmp_path / "long")
    assert len(frames(second({"video_path": source}, steps=2, output_video=tmp_path / "b"))) == 7


def test_no_task_is_what_the_folder_is_for() -> None:
    assert isinstance(pipeline(model=FIRST, device="cpu"), ImageToVideo)
    assert isinstance(pipeline(model=SECOND, device="cpu"), VideoToVideo)


@pytest.mark.parametrize(
    ("task", "name"), [("image-to-video", "papercut-animate"), ("video-to-video", "papercut-refine")]
)
def test_without_a_model_it_is_the_embedded_one_for_the_task(task: str, name: str) -> None:
    made = pipeline(task, device="cpu")
    assert isinstance(made, (ImageToVideo, VideoToVideo)) and made._inner.spec.name == name


def test_the_embedded_model_keeps_what_it_was_made_for(tmp_path: Path) -> None:
    still = Image.new("RGB", (128, 128), "teal")
    target = tmp_path / "a.mp4"
    pipeline("image-to-video", device="cpu")(
        {"image": still, "text": "a boat", "frames": 2, "steps": 1, "seed": 1}, output_video=target
    )
    recipe = read_recipe(target)
    assert recipe["request"]["sampler"] == "dpmpp_2m" and recipe["request"].get("spacing") is None


@pytest.mark.parametrize(
    ("task", "model", "said"),
    [
        ("image-to-video", SECOND, r"\(video-to-video\)"),
        ("video-to-video", FIRST, r"\(image-to-video\)"),
        ("text-to-video-synthesis", FIRST, r"\(image-to-video\)"),
        (
            "image-captioning",
            FIRST,
            "this package has text-to-video-synthesis, image-to-video, video-to-video",
        ),
    ],
)
def test_another_task_than_the_folders_is_refused_before_it_is_loaded(
    task: str, model: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kinescribe.compat.modelscope.pipelines.load_components",
        lambda *_, **__: pytest.fail("it was loaded"),
    )
    with pytest.raises(OptionError, match=said):
        pipeline(task, model, device="cpu")


@pytest.mark.parametrize(
    ("door", "item", "said"),
    [
        ("first", None, "no picture"),
        ("first", {"text": "a boat"}, "no picture"),
        ("first", {"image": FIRST / "test_a.png", "text": "a boat"}, "reads no text"),
        ("first", "http://127.0.0.1:9/x.jpg", "http://127.0.0.1:9/x.jpg"),
        ("first", {"image": FIRST / "test_a.png", "colour": "red"}, "unknown option 'colour'"),
        ("second", {"text": WORDS}, "no 'video_path'"),
        ("second", {"video_path": "missing.mp4"}, "missing.mp4"),
        ("second", {"video_path": SECOND / "test.mp4", "strength": 2.0}, "strength"),
    ],
)
def test_wrong_input_is_named(door: str, item: Any, said: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(OptionError, match=said):
        request.getfixturevalue(door)(item)


def test_a_picture_in_memory_is_no_file(first: ImageToVideo) -> None:
    data = io.BytesIO()
    Image.open(FIRST / "test_b.png").save(data, "PNG")
    made = first(data.getvalue(), steps=1)
    assert isinstance(made, dict) and isinstance(made["output_video"], bytes)
