"""Make docs/images/papercut.jpg: clips that the embedded model made, one a row, eight of sixteen frames across.

Run as `python docs/images/make_papercut.py`; nothing is picked: every prompt has the seed of its row.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import kinescribe

PROMPTS = (
    "a red balloon rising over the sea at sunset",
    "a yellow star spinning in space",
    "a blue fish swimming to the left underwater",
    "a green car driving to the right through the city at night",
    "a pink heart growing over the snow",
    "an orange bird circling over the mountains",
)
GAP, EVERY = 4, 2


def main() -> None:
    """Make the clips and lay their frames side by side."""
    pipe = kinescribe.load("papercut", device="cpu")
    rows = []
    for seed, prompt in enumerate(PROMPTS):
        frames = pipe(prompt, seed=seed).frames[::EVERY]
        rows.append(
            np.concatenate([np.pad(f, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for f in frames], 1)
        )
    Image.fromarray(np.concatenate(rows)).save(
        Path(__file__).with_name("papercut.jpg"), quality=88, optimize=True
    )


if __name__ == "__main__":
    main()
