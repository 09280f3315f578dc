"""Contact sheets of judged clips: a row a clip, its prompt above, green or red for what was asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

COLUMNS = 8
CAPTION = 30
GAP = 2
GOOD, BAD, OPEN = (20, 130, 50), (200, 30, 30), (150, 150, 150)


def write_judged(
    path: Path,
    clips: UInt8[np.ndarray, "n f h w 3"],
    prompts: Sequence[str],
    right: Mapping[str, Int[np.ndarray, " n"]],
    *,
    side: int = 96,
) -> None:
    """Write a PNG: eight frames of each clip, `side` pixels wide, under its prompt and the names of its attributes.

    A name is green with a plus where right (1), red with a minus where wrong (0), grey where left open (-1).
    """
    from PIL import Image, ImageDraw

    step = side + GAP
    sheet = Image.new("RGB", (COLUMNS * step, len(clips) * (step + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (clip, prompt) in enumerate(zip(clips, prompts, strict=True)):
        top = row * (step + CAPTION)
        draw.text((3, top + 2), f"{row + 1}. {prompt}", fill="black")
        x = 3.0
        for name, answers in right.items():
            sign, colour = {1: ("+", GOOD), 0: ("-", BAD), -1: ("", OPEN)}[int(answers[row])]
            draw.text((x, top + 15), sign + name, fill=colour)
            x += draw.textlength(sign + name) + 12
        for column, index in enumerate(np.linspace(0, len(clip) - 1, COLUMNS).round().astype(int)):
            frame = Image.fromarray(clip[index]).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(frame, (column * step, top + CAPTION))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")
