"""Make docs/images/stages.jpg: a row a prompt; small a still and three frames that continue it, large the same refined.

Run as `python docs/images/make_stages.py`. Stills are first frames of Papercut's clips; prompts and seeds are the first
three of make_papercut.py, so nothing is picked.
"""

from pathlib import Path

import numpy as np
from make_papercut import PROMPTS
from PIL import Image

import kinescribe

GAP, ROWS, SHOWN = 4, 3, (5, 10, 15)


def main() -> None:
    """Make the clips and lay them out: 128 x 128 pixels in fours, 256 x 256 beside them."""
    models = ("papercut", "papercut-animate", "papercut-refine")
    draw, animate, refine = (kinescribe.load(name, device="cpu") for name in models)
    rows = []
    for seed, prompt in enumerate(PROMPTS[:ROWS]):
        still = draw(prompt, seed=seed).frames[0]
        clip = animate(still, prompt, seed=seed)
        large = refine(clip, prompt, seed=seed).frames
        first, second, third = (clip.frames[i] for i in SHOWN)
        small = np.concatenate([np.concatenate([still, first], 1), np.concatenate([second, third], 1)])
        tiles = [small, *(large[i] for i in SHOWN)]
        framed = [np.pad(tile, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for tile in tiles]
        rows.append(np.concatenate(framed, 1))
    picture = Image.fromarray(np.concatenate(rows))
    picture.save(Path(__file__).with_name("stages.jpg"), quality=90, optimize=True)


if __name__ == "__main__":
    main()
