"""Make docs/images/speed.png: seconds a clip as bars, from figures that a benchmark wrote.

    python docs/images/make_speed_chart.py benchmarks/results/NAME.json [MORE.json ...] [--out FILE]

Each file gives one group: of `benchmarks/peers.py` its whole clips, of `benchmarks/cpu_pair.py` the better number
format of either side, of an earlier pair the two sides. Date, device and versions stand under its title.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, BAR, GAP, LABEL, HEAD = 1200, 36, 40, 14, 330, 96
OURS, OTHERS, INK, PALE, PAPER = "#d1495b", "#9aa5b1", "#22303c", "#5b6b79", "#ffffff"
NAMES = {
    "ours": "Kinescribe",
    "kinescribe": "Kinescribe",
    "diffusers": "diffusers, eager",
    "compiled": "diffusers, compiled",
    "modelscope": "ModelScope's own loop",
}

Bars = list[tuple[str, float]]


def main() -> None:
    """Draw every file's group, one below the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speed.png"))
    options = parser.parse_args()
    results = [json.loads(file.read_text(encoding="utf-8")) for file in options.files]
    picture = chart([(title(result), under(result), bars(result)) for result in results])
    picture.quantize(64).save(options.out, optimize=True)
    print(options.out)  # noqa: T201 - a script's one line


def bars(result: dict[str, Any]) -> Bars:
    """What is drawn of a result: names and seconds a clip, in the order of the file."""
    if "rows" in result:
        rows = [row for row in result["rows"] if row["what"] == "clip" and "limit_gib" not in row]
        return [(NAMES[row["side"]], row["seconds_per_clip"]) for row in rows if row["side"] in NAMES]
    if "sides" in result:
        return [(name, result["sides"][name]["seconds_per_clip"]) for name in result["better"].values()]
    return [(NAMES[name], result[name]["seconds"]) for name in ("kinescribe", "diffusers")]


def title(result: dict[str, Any]) -> str:
    """What is made, in words."""
    if "sides" in result:
        return f"Papercut on a processor: seconds a clip of {result['steps']} steps"
    return "16 frames of 256 x 256, 25 steps with guidance, 1.7 billion parameters: seconds a clip"


def under(result: dict[str, Any]) -> str:
    """What the figures depend on."""
    versions = ", ".join(f"{name} {number.partition('+')[0]}" for name, number in result["versions"].items())
    return f"{result['device']}, {result['date']}; {versions}"


def chart(groups: list[tuple[str, str, Bars]]) -> Image.Image:
    """The picture: bars of one group share a scale, which begins at 0."""
    heights = [HEAD + len(rows) * (BAR + GAP) for _, _, rows in groups]
    picture = Image.new("RGB", (WIDTH, sum(heights) + 2 * MARGIN), PAPER)
    draw, top = ImageDraw.Draw(picture), MARGIN
    large, small = ImageFont.load_default(26), ImageFont.load_default(18)
    for (head, facts, rows), height in zip(groups, heights, strict=True):
        draw.text((MARGIN, top), head, INK, large)
        draw.text((MARGIN, top + 38), facts, PALE, small)
        longest = max(seconds for _, seconds in rows)
        for place, (name, seconds) in enumerate(rows):
            y = top + HEAD - GAP + place * (BAR + GAP)
            length = seconds / longest * (WIDTH - LABEL - 2 * MARGIN - 90)
            colour = OURS if name.lower().startswith("kinescribe") else OTHERS
            draw.text((MARGIN + LABEL - 12, y + BAR / 2), name, INK, small, anchor="rm")
            draw.rectangle((MARGIN + LABEL, y, MARGIN + LABEL + length, y + BAR), colour)
            draw.text(
                (MARGIN + LABEL + length + 10, y + BAR / 2), f"{seconds:.3g} s", INK, small, anchor="lm"
            )
        top += height
    return picture


if __name__ == "__main__":
    main()
