"""The prompts Papercut is examined with, and what each asks for. No torch.

Held-out combinations of subject, colour, scene and motion, said by the caption grammar with nothing left out;
two-subject prompts of the same kind; and thirty sentences written by hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from kinescribe.world import words
from kinescribe.world.clip import (
    CAMERAS,
    COLOURS,
    MOTIONS,
    SCENES,
    SUBJECTS,
    TIMES,
    Clip,
    Clips,
    sample_clips,
)
from kinescribe.world.grammar import caption, plain_caption

MOST_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and the attributes it names (indices into the tables of `world.clip`); None: left open.

    `clip` is the clip the prompt was drawn from, where there is one.
    """

    prompt: str
    subject: int | None = None
    colour: int | None = None
    scene: int | None = None
    time: int | None = None
    motion: int | None = None
    camera: int | None = None
    clip: Clip | None = None


def held_out_prompts(count: int, seed: int, *, pairs: bool = False) -> list[Asked]:
    """`count` prompts of combinations kept from training, naming subject, colour, scene, time and motion.

    The camera counts as asked for where the caption names it. With `pairs` every clip has two subjects.
    """
    clips = sample_clips(count, seed, held_out=True, pairs=1.0 if pairs else 0.0)
    rng = Random(seed)
    return [_asked(clips[i], rng) for i in range(len(clips))]


def clips_of(asked: Iterable[Asked]) -> Clips:
    """The clips that prompts were drawn from; the prompts must have been drawn from clips."""
    return Clips.of(item.clip for item in asked if item.clip is not None)


def full_caption(clip: Clip, rng: Random) -> str:
    """A caption of `clip` that names subject, colour, scene, time and motion."""
    for _ in range(MOST_DRAWS):
        text = caption(clip, rng)
        if all(_says(text, phrases) for phrases in _needed(clip)):
            return text
    return plain_caption(clip)


def _asked(clip: Clip, rng: Random) -> Asked:
    text = full_caption(clip, rng)
    named = _says(text, (*words.CAMERAS[clip.camera], *words.CAMERA_ON[clip.camera]))
    return Asked(
        prompt=text,
        subject=clip.subject,
        colour=clip.colour,
        scene=clip.scene,
        time=clip.time,
        motion=clip.motion,
        camera=clip.camera if named else None,
        clip=clip,
    )


def _says(text: str, phrases: Iterable[str]) -> bool:
    return any(f" {phrase} " in f" {text.replace(',', ' ').replace('  ', ' ')} " for phrase in phrases)


def _needed(clip: Clip) -> list[tuple[str, ...]]:
    """For each attribute that must be said, the phrases that say it."""
    rows = [
        words.NOUNS[clip.subject],
        words.COLOURS[clip.colour],
        words.SCENES[clip.scene] + words.THROUGH[clip.scene],
        words.TIMES[clip.time],
        _motion_phrases(clip),
    ]
    if clip.second is not None:
        rows += [words.NOUNS[clip.second.subject], words.COLOURS[clip.second.colour]]
    return rows


def _motion_phrases(clip: Clip) -> tuple[str, ...]:
    motion = MOTIONS[clip.motion]
    phrases = list(words.WAYS.get(motion, ()))
    for verb, tails in words.ACTS[motion]:
        said = [tail for tail in tails if tail]
        # "gets" and "becomes" say nothing until their tail does.
        phrases += said if verb[0] in ("get", "become") else verb
    if motion == "still":
        phrases += [form for verb in words.OWN_RESTS[clip.subject] for form in verb]
    return tuple(phrases)


def _by_hand(prompt: str, named: str, *, camera: str = "") -> Asked:
    """A prompt and the names of what it asks for, from any table but the camera's."""
    tables = {"subject": SUBJECTS, "colour": COLOURS, "scene": SCENES, "time": TIMES, "motion": MOTIONS}
    wanted: dict[str, Any] = {
        attribute: table.index(name)
        for attribute, table in tables.items()
        for name in named.split()
        if name in table
    }
    return replace(Asked(prompt=prompt, camera=CAMERAS.index(camera) if camera else None), **wanted)


PLAIN_PROMPTS: tuple[Asked, ...] = (
    _by_hand("A red balloon rises over the sea at sunset.", "balloon red sea sunset rising"),
    _by_hand("A yellow car drives to the right through the city", "car yellow city right"),
    _by_hand("a little blue fish swimming left under the sea", "fish blue underwater left"),
    _by_hand("a white sailboat rocking from side to side on the water", "boat white sea swaying"),
    _by_hand("a big golden star spinning in outer space", "star yellow space spinning"),
    _by_hand("black cat jumping up and down in the snow at night", "cat black snow night bouncing"),
    _by_hand("A purple butterfly is flying in circles over a meadow", "butterfly purple grass circling"),
    _by_hand("an orange ball bouncing in the desert at noon", "ball orange desert day bouncing"),
    _by_hand("a pink heart getting bigger and bigger in space", "heart pink space growing"),
    _by_hand("The green rocket climbs into the sky above the mountains", "rocket green mountains rising"),
    _by_hand("a teal bird flies from left to right at dusk", "bird teal sunset right"),
    _by_hand("a house in the snow, nothing moves", "house snow"),
    _by_hand("a crescent moon sinking slowly over the city at night", "moon city night falling"),
    _by_hand("A red umbrella falls down from the sky in the desert", "umbrella red desert falling"),
    _by_hand("a blue flower swaying gently in the grass on a sunny day", "flower blue grass day swaying"),
    _by_hand("a small green tree growing on the lawn", "tree green grass growing"),
    _by_hand("a huge white balloon shrinking at midnight", "balloon white night shrinking"),
    _by_hand("a spaceship turning over and over among the planets", "rocket space spinning"),
    _by_hand("A crimson car standing still on the street at night", "car red city night still"),
    _by_hand("kitten under water", "cat underwater"),
    _by_hand("an orange fish in the mountains moving left", "fish orange mountains left"),
    _by_hand("In the evening light, a violet boat sails right", "boat purple sunset right"),
    _by_hand("the camera zooms in on a pink house at sunset", "house pink sunset", camera="zoom in"),
    _by_hand("panning right, a black bird hovers over the sea", "bird black sea still", camera="pan right"),
    _by_hand(
        "a turquoise ball rolling left on the grass, static camera", "ball teal grass left", camera="still"
    ),
    _by_hand("a yellow flower twirls in a snowy landscape", "flower yellow snow spinning"),
    _by_hand("I want to see a white heart float upwards in the moonlight", "heart white night rising"),
    _by_hand("please show a red star going around in circles at sundown", "star red sunset circling"),
    _by_hand("a butterfly gets smaller, the camera pulls back", "butterfly shrinking", camera="zoom out"),
    _by_hand("blue moon over green hills in the daylight", "moon blue grass day"),
)
"""Thirty sentences as a user might type them, with what each names; a few words are beyond the vocabulary."""
