"""Did the picture come to life? Two figures for the report, and one warning with the knobs to turn."""

import numpy as np
from jaxtyping import UInt8

from kinescribe.media.frames import Frames
from kinescribe.media.measures import STILL, UNLIKE, motion, similarity
from kinescribe.pipelines.stages import say

GREY, GREY_SHARE = (117, 137), 0.4
"""Levels between which a frame counts as grey, and the share of it that must lie there; VGen's own numbers."""


def warn_of_stillness(frames: Frames, picture: UInt8[np.ndarray, "y x 3"] | None) -> tuple[str, ...]:
    """What to say of a clip in its report; one warning if little moves, it is not the picture, or ends in grey.

    ``picture`` is what the clip should begin with, None where only its meaning counts.
    """
    notes, faults, knobs = [], [], ["another seed"]
    if picture is not None:
        like = similarity(picture, frames[0])
        notes.append(f"first frame like the picture {like:.2f} of 1")
        if like < UNLIKE:
            faults.append(f"the first frame has little of the picture ({like:.2f} of 1)")
            knobs.append("a prompt that says what the picture shows")
        if _grey(frames[-1]) and not _grey(frames[0]):
            faults.append("the last frame is grey, a known fault of this model: leave it out")
    if len(frames) > 1:
        moved = motion(frames)
        notes.append(f"motion {moved:.1f}")
        if moved < STILL:
            faults.append(f"almost nothing moves ({moved:.1f}, below {STILL})")
            knobs.append("a lower condition_fps")
            knobs += ["a prompt that says what moves", "less guidance"] if picture is not None else []
    if faults:
        say(f"{'; '.join(faults)}: try {', or '.join(knobs)}")
    return tuple(notes)


def _grey(frame: UInt8[np.ndarray, "h w 3"]) -> bool:
    return bool(((frame >= GREY[0]) & (frame <= GREY[1])).mean() > GREY_SHARE)
