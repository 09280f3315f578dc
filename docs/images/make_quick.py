"""Make docs/images/quick.jpg: one prompt and seed by Papercut in few steps, in 2, 4 and 8, and by Papercut in its 16.

Run as `python docs/images/make_quick.py`; six of sixteen frames across, nothing picked.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import kinescribe

PROMPTS = ("a red balloon rising over the sea at sunset", "a green car moving right in the city at night")
STEPS = (2, 4, 8)
FRAMES = (0, 3, 6, 9, 12, 15)


def main() -> None:
    """Make the clips, join them and write the picture."""
    quick, papercut = (kinescribe.load(name, device="cpu") for name in ("papercut-quick", "papercut"))
    rows = []
    for prompt in PROMPTS:
        clips = [quick(prompt, seed=3, steps=steps) for steps in STEPS] + [papercut(prompt, seed=3)]
        rows += [np.concatenate([clip.frames[i] for i in FRAMES], 1) for clip in clips]
    picture = Image.fromarray(np.concatenate(rows))
    picture.save(Path(__file__).with_name("quick.jpg"), quality=70, optimize=True, progressive=True)


if __name__ == "__main__":
    main()
