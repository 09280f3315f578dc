"""How clips move, without knowing what they show: first and second differences of frames, against true renders."""

import numpy as np
from jaxtyping import Float, UInt8


def movement(clips: UInt8[np.ndarray, "n f h w 3"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Three figures for each clip, in 8-bit levels where they have a unit.

    "change": mean absolute difference of neighbouring frames. "jerk": mean absolute second difference over the mean
    first one, to be compared with that of true renders: flicker raises it. "jump": the largest change over the mean.
    """
    rows = [_movement(clip.astype(np.float32)) for clip in clips]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def summary(figures: dict[str, Float[np.ndarray, " n"]]) -> dict[str, float]:
    """Means over clips, and the spread of "change"."""
    means = {name: float(values.mean()) for name, values in figures.items()}
    return means | {"change_deviation": float(figures["change"].std())}


def _movement(clip: Float[np.ndarray, "f h w 3"]) -> dict[str, float]:
    first = np.diff(clip, axis=0)
    changes = np.abs(first).mean((1, 2, 3))
    mean = float(changes.mean())
    jerk = float(np.abs(np.diff(first, axis=0)).mean())
    still = mean < 1e-6
    return {
        "change": mean,
        "jerk": 1.0 if still else jerk / mean,
        "jump": 1.0 if still else float(changes.max()) / mean,
    }
