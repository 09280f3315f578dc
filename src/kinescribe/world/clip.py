"""What a Papercut clip is: integer attributes in fixed tables, a seed, and the fixed hold-out. No torch.

Everything a picture shows follows from these integers, so a training set of 200,000 clips is ten small arrays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

SUBJECTS: tuple[str, ...] = (
    "balloon", "ball", "boat", "fish", "bird", "rocket", "car", "star",
    "heart", "tree", "cat", "house", "moon", "butterfly", "flower", "umbrella",
)  # fmt: skip
COLOURS: tuple[str, ...] = (
    "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white", "black",
)  # fmt: skip
SCENES: tuple[str, ...] = ("sea", "grass", "desert", "snow", "mountains", "city", "underwater", "space")
TIMES: tuple[str, ...] = ("day", "sunset", "night")
MOTIONS: tuple[str, ...] = (
    "left", "right", "rising", "falling", "bouncing", "spinning",
    "growing", "shrinking", "circling", "swaying", "still",
)  # fmt: skip
SIZES: tuple[str, ...] = ("small", "medium", "large")
CAMERAS: tuple[str, ...] = ("still", "pan left", "pan right", "zoom in", "zoom out")

FPS = 8.0
FRAMES = 16
HELD_OUT_SHARE = 0.15
STILL_CAMERA_SHARE = 0.6

_MASK = 0xFFFFFFFF


def scramble(x: Any) -> Any:
    """A 32-bit integer hash ("lowbias32" by C. Wellons) of ints, int64 arrays or int64 tensors alike.

    Only the low 32 bits of `x` count; the result lies in [0, 2**32).
    """
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


@dataclass(frozen=True)
class Sprite:
    """One subject with its colour, as indices into `SUBJECTS` and `COLOURS`."""

    subject: int
    colour: int


@dataclass(frozen=True)
class Clip:
    """One clip by its attributes (indices into the tables above); `second` shares size and motion."""

    subject: int
    colour: int
    scene: int
    time: int
    motion: int
    size: int
    camera: int
    second: Sprite | None
    seed: int


@dataclass(frozen=True, eq=False)
class Clips:
    """Many clips as int64 arrays of one length; `second_*` are -1 where a clip has one subject."""

    subject: Int[np.ndarray, " n"]
    colour: Int[np.ndarray, " n"]
    scene: Int[np.ndarray, " n"]
    time: Int[np.ndarray, " n"]
    motion: Int[np.ndarray, " n"]
    size: Int[np.ndarray, " n"]
    camera: Int[np.ndarray, " n"]
    second_subject: Int[np.ndarray, " n"]
    second_colour: Int[np.ndarray, " n"]
    seed: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> "Clips":
        """The struct of arrays of single clips."""
        rows = [_row(clip) for clip in clips]
        columns = np.asarray(rows, dtype=np.int64).reshape(len(rows), len(fields(cls)))
        return cls(*(np.ascontiguousarray(column) for column in columns.T))

    def __len__(self) -> int:
        return len(self.subject)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> "Clips": ...

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> "Clip | Clips":
        """One `Clip` for an integer; `Clips` for a slice, an index array or a boolean mask."""
        if isinstance(index, int | np.integer):
            return self._single(int(index))
        picked = index if isinstance(index, slice) else np.asarray(index)
        return Clips(**{name: column[picked] for name, column in self.labels().items()})

    def labels(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Every column by name: the labels a judge is trained and scored on, and the seed."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _single(self, i: int) -> Clip:
        values = {name: int(column[i]) for name, column in self.labels().items()}
        subject, colour = values.pop("second_subject"), values.pop("second_colour")
        return Clip(second=Sprite(subject, colour) if subject >= 0 else None, **values)


def _row(clip: Clip) -> tuple[int, ...]:
    second = clip.second or Sprite(-1, -1)
    return (
        clip.subject, clip.colour, clip.scene, clip.time, clip.motion, clip.size, clip.camera,
        second.subject, second.colour, clip.seed,
    )  # fmt: skip


def is_held_out(subject: Any, colour: Any, scene: Any, motion: Any) -> Any:
    """Whether a combination is kept from training: a fixed 15 % by an integer hash.

    Takes ints (returns bool) or int64 arrays (returns a boolean array). The rule must never change:
    published weights were trained without exactly these combinations.
    """
    code = ((subject * len(COLOURS) + colour) * len(SCENES) + scene) * len(MOTIONS) + motion
    return scramble(code + 0x9A9E) % 1000 < round(HELD_OUT_SHARE * 1000)


def sample_clips(n: int, seed: int, *, held_out: bool | None = False, pairs: float = 0.15) -> Clips:
    """Draw `n` clips, every attribute uniform (the camera rests in 60 %).

    `held_out`: False draws only training combinations (of both subjects), True only held-out ones
    (of the first subject), None draws from all. `pairs` is the share of clips with a second subject,
    which differs from the first in kind and colour.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x9A9E12]))
    scene, time, motion, size = (rng.integers(0, len(t), n) for t in (SCENES, TIMES, MOTIONS, SIZES))
    moving = rng.integers(1, len(CAMERAS), n)
    camera = np.where(rng.random(n) < STILL_CAMERA_SHARE, 0, moving)
    subject, colour = rng.integers(0, len(SUBJECTS), n), rng.integers(0, len(COLOURS), n)
    second_subject = (subject + rng.integers(1, len(SUBJECTS), n)) % len(SUBJECTS)
    second_colour = (colour + rng.integers(1, len(COLOURS), n)) % len(COLOURS)
    paired = rng.random(n) < pairs
    wrong = np.arange(n)
    while held_out is not None and wrong.size:
        first = is_held_out(subject[wrong], colour[wrong], scene[wrong], motion[wrong])
        other = is_held_out(second_subject[wrong], second_colour[wrong], scene[wrong], motion[wrong])
        wrong = wrong[~first if held_out else first | (other & paired[wrong])]
        m = wrong.size
        subject[wrong], colour[wrong] = rng.integers(0, len(SUBJECTS), m), rng.integers(0, len(COLOURS), m)
        scene[wrong], motion[wrong] = rng.integers(0, len(SCENES), m), rng.integers(0, len(MOTIONS), m)
        second_subject[wrong] = (subject[wrong] + rng.integers(1, len(SUBJECTS), m)) % len(SUBJECTS)
        second_colour[wrong] = (colour[wrong] + rng.integers(1, len(COLOURS), m)) % len(COLOURS)
    return Clips(
        subject=subject,
        colour=colour,
        scene=scene,
        time=time,
        motion=motion,
        size=size,
        camera=camera,
        second_subject=np.where(paired, second_subject, -1),
        second_colour=np.where(paired, second_colour, -1),
        seed=rng.integers(0, 2**31, n),
    )
