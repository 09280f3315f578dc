from random import Random

from kinescribe.evaluate.prompts import PLAIN_PROMPTS, clips_of, full_caption, held_out_prompts
from kinescribe.world import words
from kinescribe.world.clip import CAMERAS, is_held_out, sample_clips


def test_prompts_are_of_combinations_kept_from_training() -> None:
    clips = clips_of(held_out_prompts(60, 1))
    assert is_held_out(clips.subject, clips.colour, clips.scene, clips.motion).all()
    assert (clips.second_subject < 0).all()


def test_the_same_seed_gives_the_same_prompts() -> None:
    texts = [[item.prompt for item in held_out_prompts(10, seed)] for seed in (4, 4, 5)]
    assert texts[0] == texts[1] != texts[2]


def test_prompts_name_subject_colour_scene_and_time() -> None:
    for item in held_out_prompts(60, 2):
        rows = [words.NOUNS[item.subject], words.COLOURS[item.colour], words.TIMES[item.time]]
        rows.append(words.SCENES[item.scene] + words.THROUGH[item.scene])
        assert all(any(phrase in item.prompt for phrase in row) for row in rows), item.prompt


def test_a_motion_is_named_though_the_verb_gets_says_nothing() -> None:
    clips = sample_clips(300, 3, pairs=0.0)
    texts = [full_caption(clips[i], Random(i)) for i in range(len(clips))]
    for text in texts:
        said = text.split()
        for verb in ("gets", "getting", "becomes", "becoming"):
            assert verb not in said or any(
                tail in said for tail in ("bigger", "larger", "smaller", "tiny")
            ), text


def test_a_camera_is_asked_for_only_where_it_is_named() -> None:
    asked = held_out_prompts(120, 6)
    named = [item for item in asked if item.camera is not None]
    assert 0 < len(named) < len(asked)
    for item in named:
        phrases = words.CAMERAS[item.camera] + words.CAMERA_ON[item.camera]
        assert any(phrase in item.prompt for phrase in phrases)


def test_pair_prompts_name_both_subjects() -> None:
    for item in held_out_prompts(20, 7, pairs=True):
        assert item.clip is not None and item.clip.second is not None
        assert any(noun in item.prompt for noun in words.NOUNS[item.clip.second.subject])


def test_thirty_plain_prompts_ask_for_most_motions_cameras_and_all_subjects() -> None:
    assert len({item.prompt for item in PLAIN_PROMPTS}) == 30
    assert {item.subject for item in PLAIN_PROMPTS} >= set(range(16))
    assert {item.motion for item in PLAIN_PROMPTS} >= set(range(11))
    assert len({item.camera for item in PLAIN_PROMPTS} - {None}) == len(CAMERAS) - 1
