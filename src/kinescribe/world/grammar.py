"""Captions for clips: many ways to say one thing, some attributes left unsaid. No torch.

A caption never says anything false. What it leaves out is free: the pictures behind such captions vary in it.
An unsaid camera is usually at rest.
"""

from random import Random

from kinescribe.world import words
from kinescribe.world.clip import MOTIONS, SIZES, Clip

_TRAVELLING = ("left", "right")

# How often an attribute is said, so that every subset of them is met in training.
_SAYS_COLOUR, _SAYS_SIZE, _SAYS_SCENE, _SAYS_TIME, _SAYS_MOTION = 0.95, 0.45, 0.92, 0.78, 0.92
_SAYS_MOVING_CAMERA, _SAYS_STILL_CAMERA = 0.88, 0.10


def caption(clip: Clip, rng: Random) -> str:
    """One of the many captions of `clip`: lower-case ASCII, drawn with `rng`."""
    subjects = _subjects(clip, rng)
    place = _place(clip, rng) if rng.random() < _SAYS_SCENE else ""
    hour = _some(words.TIMES[clip.time], rng) if rng.random() < _SAYS_TIME else ""
    camera = rng.random() < (_SAYS_MOVING_CAMERA if clip.camera else _SAYS_STILL_CAMERA)
    if camera and rng.random() < 0.4:
        opening = _some(words.CAMERA_ON[clip.camera], rng)
        return _joined(opening, subjects, _doing(clip, rng, ("ing",)), place, hour)
    sentence = _sentence(clip, subjects, place, hour, rng)
    if not camera:
        return sentence
    phrase = _some(words.CAMERAS[clip.camera], rng)
    order = rng.random()
    if order < 0.2:
        return f"{phrase}, {sentence}"
    link = " while " if order < 0.4 and phrase.startswith("the camera") else ", "
    return f"{sentence}{link}{phrase}"


def plain_caption(clip: Clip) -> str:
    """The canonical caption of `clip`: every attribute, always in the same words and order."""
    size = SIZES[clip.size]
    names = [f"a {size} {words.COLOURS[clip.colour][0]} {words.NOUNS[clip.subject][0]}"]
    if clip.second is not None:
        second = clip.second
        names.append(f"a {size} {words.COLOURS[second.colour][0]} {words.NOUNS[second.subject][0]}")
    doing, place = words.PLAIN_MOTIONS[clip.motion], words.SCENES[clip.scene][0]
    hour, camera = words.TIMES[clip.time][0], words.CAMERAS[clip.camera][0]
    return f"{' and '.join(names)} {doing} {place} {hour}, {camera}"


def vocabulary_words() -> list[str]:
    """Every word that a caption can contain, sorted."""
    found = set(words.FRAME_WORDS)
    found.update(word for phrase in _phrases() for word in phrase.split())
    return sorted(found)


def _phrases() -> list[str]:
    rows = (
        *words.NOUNS, *words.COLOURS, *words.SIZES, *words.SCENES, *words.THROUGH, *words.TIMES,
        *words.CAMERAS, *words.CAMERA_ON, words.OPENINGS, words.WATCH, words.BESIDE, words.PLAIN_MOTIONS,
    )  # fmt: skip
    phrases = [phrase for row in (*rows, *words.WAYS.values()) for phrase in row]
    for acts in words.ACTS.values():
        for verb, tails in acts:
            phrases += [*verb, *tails]
    for verbs in (words.TRAVELS, *words.OWN_TRAVELS, *words.OWN_RESTS):
        phrases += [form for verb in verbs for form in verb]
    return phrases


def _sentence(clip: Clip, subjects: str, place: str, hour: str, rng: Random) -> str:
    pattern = rng.random()
    if pattern < 0.30:
        return _joined(subjects, _doing(clip, rng, ("ing",)), place, hour)
    if pattern < 0.55:
        return _joined(subjects, _doing(clip, rng, ("finite", "is")), place, hour)
    if pattern < 0.63:
        return _joined(subjects, place, hour, _doing(clip, rng, ("ing",)))
    if pattern < 0.72:
        return _joined(subjects, place, _doing(clip, rng, ("ing", "finite")), hour)
    if pattern < 0.80 and place:
        return f"{place}, " + _joined(subjects, _doing(clip, rng, ("finite", "ing")), hour)
    if pattern < 0.88 and hour:
        return f"{hour}, " + _joined(subjects, _doing(clip, rng, ("finite", "is")), place)
    if pattern < 0.92:
        return _joined("there is", subjects, _doing(clip, rng, ("ing",)), place, hour)
    if pattern < 0.96:
        return _joined(rng.choice(words.WATCH), subjects, _doing(clip, rng, ("bare",)), place, hour)
    return _joined(_some(words.OPENINGS, rng), subjects, _doing(clip, rng, ("ing",)), place, hour)


def _subjects(clip: Clip, rng: Random) -> str:
    """The one or two noun phrases."""
    size = _some(words.SIZES[clip.size], rng) if rng.random() < _SAYS_SIZE else ""
    first = _name(clip.subject, clip.colour, size, rng)
    if clip.second is None:
        return first
    second = _name(clip.second.subject, clip.second.colour, size, rng)
    return f"{first} {rng.choice(words.BESIDE)} {second}"


def _name(subject: int, colour: int, size: str, rng: Random) -> str:
    hue = _some(words.COLOURS[colour], rng) if rng.random() < _SAYS_COLOUR else ""
    noun = _some(words.NOUNS[subject], rng)
    if size and noun.startswith("little"):
        noun = noun.removeprefix("little ")  # one size word is enough
    rest = _joined(size, hue, noun)
    article = rng.random()
    if article < 0.06:
        return f"the {rest}"
    if article < 0.09:
        return f"one {rest}"
    return f"{'an' if rest[0] in 'aeiou' else 'a'} {rest}"


def _place(clip: Clip, rng: Random) -> str:
    if MOTIONS[clip.motion] in _TRAVELLING and rng.random() < 0.35:
        return rng.choice(words.THROUGH[clip.scene])
    return _some(words.SCENES[clip.scene], rng)


def _doing(clip: Clip, rng: Random, forms: tuple[str, ...]) -> str:
    """What the subjects do, in one of the grammatical `forms`: "ing", "finite", "is" (is ... -ing) or "bare"."""
    if rng.random() >= _SAYS_MOTION:
        return ""
    verb, tail = _act(clip, rng)
    form = rng.choice(forms)
    several = clip.second is not None
    if form == "ing":
        said = verb[2]
    elif form == "is":
        said = f"{'are' if several else 'is'} {verb[2]}"
    elif form == "bare":
        said = verb[0]
    else:
        said = verb[0 if several else 1]
    return f"{said} {tail}" if tail else said


def _act(clip: Clip, rng: Random) -> tuple[words.Verb, str]:
    motion = MOTIONS[clip.motion]
    alone = clip.second is None
    acts, ways = words.ACTS[motion], words.WAYS.get(motion, ())
    if motion == "still" and alone and rng.random() < 0.6:
        return rng.choice(words.OWN_RESTS[clip.subject]), rng.choice(("", "", "still"))
    if ways and (not acts or rng.random() < 0.4):
        own = words.OWN_TRAVELS[clip.subject] if alone and rng.random() < 0.7 else words.TRAVELS
        return rng.choice(own), rng.choice(ways)
    # Half the time the first verb, which is the plain one.
    verb, tails = acts[0] if rng.random() < 0.5 else rng.choice(acts)
    return verb, rng.choice(tails)


def _some(row: tuple[str, ...], rng: Random) -> str:
    """The plain entry of a row in 45 %, else any."""
    return row[0] if rng.random() < 0.45 else row[int(rng.random() * len(row))]


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
