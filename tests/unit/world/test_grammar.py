import re
from dataclasses import replace
from random import Random

import pytest

from kinescribe.world import words
from kinescribe.world.clip import (
    CAMERAS,
    COLOURS,
    MOTIONS,
    SCENES,
    SIZES,
    SUBJECTS,
    TIMES,
    Clip,
    sample_clips,
)
from kinescribe.world.grammar import caption, plain_caption, vocabulary_words

BALLOON = Clip(
    subject=SUBJECTS.index("balloon"), colour=COLOURS.index("red"), scene=SCENES.index("sea"),
    time=TIMES.index("sunset"), motion=MOTIONS.index("rising"), size=2, camera=0, second=None, seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def captions() -> list[str]:
    clips, rng = sample_clips(6_000, 3), Random(0)
    return [caption(clips[i], rng) for i in range(len(clips))]


def say(clip: Clip, times: int = 400) -> list[str]:
    rng = Random(1)
    return [caption(clip, rng) for _ in range(times)]


def test_captions_hold_only_words_of_the_vocabulary(captions: list[str]) -> None:
    known = set(vocabulary_words())
    assert {word for line in captions for word in re.findall(r"[^ ,]+", line)} <= known


def test_every_word_of_the_vocabulary_is_said(captions: list[str]) -> None:
    clips, rng = sample_clips(20_000, 4, held_out=None), Random(5)
    said = {word for line in captions for word in line.replace(",", "").split()}
    for i in range(len(clips)):
        said.update(caption(clips[i], rng).replace(",", "").split())
    assert said == set(vocabulary_words())


def test_the_vocabulary_has_a_few_hundred_words() -> None:
    assert 250 <= len(vocabulary_words()) <= 450


def test_captions_are_plain_lower_case(captions: list[str]) -> None:
    assert all(re.fullmatch(r"[a-z]+(,? [a-z]+)*", line) for line in captions)


def test_captions_are_short_enough_for_the_text_encoder(captions: list[str]) -> None:
    assert max(len(line.split()) for line in captions) <= 40


def test_captions_seldom_repeat(captions: list[str]) -> None:
    assert len(set(captions)) > 0.98 * len(captions)


def test_a_caption_follows_from_its_random_numbers() -> None:
    assert say(BALLOON, 20) == say(BALLOON, 20)


def test_every_attribute_is_sometimes_left_out() -> None:
    lines = say(BALLOON)
    rows = (words.COLOURS[0], words.SIZES[2], words.SCENES[0], words.TIMES[1])
    for row in rows:
        said = [any(phrase in line for phrase in row) for line in lines]
        assert 0.3 < sum(said) / len(said) < 0.99


def test_a_caption_names_its_subject_always() -> None:
    assert all("balloon" in line for line in say(BALLOON))


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
def test_every_motion_has_five_phrasings(motion: int) -> None:
    name = MOTIONS[motion]
    ways = len(words.WAYS.get(name, ())) * len(words.TRAVELS)
    acts = sum(len(set(tails)) for _, tails in words.ACTS[name])
    assert ways + acts >= 5


@pytest.mark.parametrize("table", ["SCENES", "TIMES", "CAMERAS", "SIZES", "NOUNS"])
def test_every_attribute_has_synonyms(table: str) -> None:
    assert all(len(row) >= 2 for row in getattr(words, table))
    assert all(len(set(row)) == len(row) for row in getattr(words, table))


def test_no_phrase_stands_for_two_values() -> None:
    for table in (words.NOUNS, words.COLOURS, words.SCENES, words.TIMES, words.CAMERAS, words.SIZES):
        phrases = [phrase for row in table for phrase in row]
        assert len(set(phrases)) == len(phrases)


def test_a_caption_of_two_names_both_in_order() -> None:
    clip = next(c for c in (sample_clips(50, 1, pairs=1.0)[i] for i in range(50)) if c.second)
    assert clip.second is not None
    for line in say(clip, 100):
        first = min(line.find(n) for n in words.NOUNS[clip.subject] if n in line)
        second = max(line.rfind(n) for n in words.NOUNS[clip.second.subject] if n in line)
        assert first < second


def test_a_moving_camera_is_mostly_told_and_a_resting_one_seldom() -> None:
    panning = replace(BALLOON, camera=CAMERAS.index("pan left"))
    told = sum("pan" in line or "camera" in line for line in say(panning))
    silent = sum("camera" not in line and "shot" not in line for line in say(BALLOON))
    assert told > 300
    assert silent > 300


def test_the_plain_caption_says_every_attribute() -> None:
    line = plain_caption(BALLOON)
    assert line == "a large red balloon rising at sea at sunset, the camera is still"


def test_plain_captions_tell_all_clips_apart() -> None:
    clips = sample_clips(3_000, 9)
    keys = (
        "subject",
        "colour",
        "scene",
        "time",
        "motion",
        "size",
        "camera",
        "second_subject",
        "second_colour",
    )
    labels = clips.labels()
    rows = {tuple(int(labels[k][i]) for k in keys) for i in range(len(clips))}
    assert len({plain_caption(clips[i]) for i in range(len(clips))}) == len(rows)


@pytest.mark.parametrize(
    "prompt",
    [
        "a red balloon rising over the sea at sunset",
        "a yellow car driving to the left through the city at night",
        "a green fish swims in circles underwater",
        "a white cat sits in the snow",
        "the camera zooms in on a blue house in the mountains",
        "watch a small bird fly to the right over the desert by day",
    ],
)
def test_ordinary_prompts_are_inside_the_vocabulary(prompt: str) -> None:
    assert set(prompt.split()) <= set(vocabulary_words())


def test_the_tables_have_a_row_for_every_value() -> None:
    pairs = (
        (words.NOUNS, SUBJECTS), (words.OWN_TRAVELS, SUBJECTS), (words.OWN_RESTS, SUBJECTS), (words.COLOURS, COLOURS),
        (words.SCENES, SCENES), (words.THROUGH, SCENES), (words.TIMES, TIMES), (words.CAMERAS, CAMERAS),
        (words.CAMERA_ON, CAMERAS), (words.SIZES, SIZES), (words.PLAIN_MOTIONS, MOTIONS), (words.ACTS, MOTIONS),
    )  # fmt: skip
    assert all(len(table) == len(values) for table, values in pairs)
    assert tuple(words.ACTS) == MOTIONS
