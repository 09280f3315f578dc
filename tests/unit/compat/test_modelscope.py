from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from goldens import expected, folder
from kinescribe.compat.modelscope import OutputKeys, Tasks, TextToVideoSynthesis, pipeline
from kinescribe.errors import OptionError
from kinescribe.media.read import read_video

pytestmark = pytest.mark.filterwarnings("ignore")

FOLDER = folder("text_to_video/modelscope")
PANDA = {"text": "A panda eating bamboo on a rock."}
SMALL = {"height": 64, "width": 96}


@pytest.fixture(scope="module")
def door() -> TextToVideoSynthesis:
    return pipeline(Tasks.text_to_video_synthesis, str(FOLDER), device="cpu")


def frames(result: dict[str, str]) -> np.ndarray:
    return read_video(result[OutputKeys.OUTPUT_VIDEO]).frames


def test_the_published_call_gives_the_frames_of_the_original(
    door: TextToVideoSynthesis, tmp_path: Path
) -> None:
    original = expected("text_to_video")["ddim50.frames_uint8"].numpy()
    torch.manual_seed(1234)
    made = frames(door({**PANDA, "out_height": 64, "out_width": 96}, output_video=tmp_path / "clip"))
    difference = np.abs(made.astype(int) - original)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_the_path_is_given_back_as_it_was_asked_for(door: TextToVideoSynthesis, tmp_path: Path) -> None:
    wanted = str(tmp_path / "output.mp4")
    assert door({**PANDA, **SMALL, "steps": 1}, output_video=wanted) == {"output_video": wanted}
    assert door({**PANDA, **SMALL, "steps": 1}, output_video=wanted) == {"output_video": wanted}
    clip = read_video(wanted)
    assert clip.fps == 8
    assert clip.frames.shape == (3, 64, 96, 3)


def test_without_a_name_a_temporary_file_is_written(door: TextToVideoSynthesis) -> None:
    path = Path(door({**PANDA, **SMALL, "steps": 1})[OutputKeys.OUTPUT_VIDEO])
    assert path.suffix == ".mp4"
    assert path.is_file()
    path.unlink()
    path.parent.rmdir()


def test_a_seed_is_the_same_as_seeding_torch_before(door: TextToVideoSynthesis, tmp_path: Path) -> None:
    torch.manual_seed(7)
    seeded = frames(door({**PANDA, **SMALL, "steps": 2}, output_video=tmp_path / "a"))
    given = frames(door({**PANDA, **SMALL, "steps": 2, "seed": 7}, output_video=tmp_path / "b"))
    other = frames(door({**PANDA, **SMALL, "steps": 2, "seed": 8}, output_video=tmp_path / "c"))
    assert np.array_equal(seeded, given)
    assert not np.array_equal(given, other)


def test_noise_of_the_global_generator_leaves_no_seed_in_the_recipe(
    door: TextToVideoSynthesis, tmp_path: Path
) -> None:
    unseeded = door({**PANDA, **SMALL, "steps": 1}, output_video=tmp_path / "a.mp4")
    seeded = door({**PANDA, **SMALL, "steps": 1, "seed": 3}, output_video=tmp_path / "b.mp4")
    recipes = [read_video(result["output_video"]).recipe for result in (unseeded, seeded)]
    assert [recipe["note"] for recipe in recipes] == ["AI-generated"] * 2
    assert ["seed" in recipe["request"] for recipe in recipes] == [False, True]  # type: ignore[operator]


def test_frames_fps_negative_prompt_and_one_side_alone_work(
    door: TextToVideoSynthesis, tmp_path: Path
) -> None:
    made = door(
        {"text": "a cat", "negative_prompt": "a dog", "frames": 2, "fps": 4, "height": 64, "steps": 1},
        output_video=str(tmp_path / "clip.mp4"),
    )
    clip = read_video(made["output_video"])
    assert clip.frames.shape == (2, 64, 64, 3)
    assert clip.fps == 4


def test_a_list_is_made_item_by_item(door: TextToVideoSynthesis, tmp_path: Path) -> None:
    made = door([{"text": "a cat"}, "a dog"], output_video=str(tmp_path / "clip.mp4"), steps=1, **SMALL)
    assert isinstance(made, list)
    assert [Path(item["output_video"]).name for item in made] == ["clip-1.mp4", "clip-2.mp4"]


def test_steps_that_do_not_divide_are_those_of_the_original_loop(door: TextToVideoSynthesis) -> None:
    from kinescribe.diffusion.samplers import plan
    from kinescribe.diffusion.schedule import Schedule

    defaults = door._defaults()
    schedule = Schedule(door._inner.components.schedule)
    assert len(plan(defaults["sampler"], schedule, 30, defaults["spacing"])) == 31


def test_another_sampler_may_be_asked_for(door: TextToVideoSynthesis, tmp_path: Path) -> None:
    made = door({**PANDA, **SMALL, "steps": 2, "sampler": "dpmpp_2m"}, output_video=tmp_path / "clip.gif")
    assert Path(made["output_video"]).is_file()


def test_an_empty_text_is_the_unconditional_clip_as_in_the_original(
    door: TextToVideoSynthesis, tmp_path: Path
) -> None:
    assert Path(
        door({"text": "", **SMALL, "steps": 1}, output_video=tmp_path / "a.gif")["output_video"]
    ).is_file()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"prompt_text": "x"}, "no 'text'"),
        ({**PANDA, "colour": "red"}, "unknown option 'colour'"),
        ({**PANDA, "height": 100}, "height=100"),
    ],
)
def test_wrong_input_is_named(door: TextToVideoSynthesis, item: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        door(item)


def test_another_task_is_refused() -> None:
    with pytest.raises(OptionError, match="image-to-video"):
        pipeline("image-to-video", str(FOLDER))
