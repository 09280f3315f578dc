"""Make docs/images/world.jpg: the world's subjects, scenes and hours, and eight of its motions over time.

Run as `python docs/images/make_world.py`; everything follows from fixed seeds.
"""

from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from kinescribe.world.clip import CAMERAS, COLOURS, MOTIONS, SCENES, SUBJECTS, TIMES, Clip, Clips, Sprite
from kinescribe.world.render import render_at, render_stills

COLUMNS, SIZE, GAP = 8, 128, 4
STORIES = (
    ("boat", "red", "sea", "sunset", "left", "still"),
    ("balloon", "yellow", "mountains", "day", "rising", "still"),
    ("ball", "blue", "grass", "day", "bouncing", "still"),
    ("fish", "orange", "underwater", "day", "circling", "still"),
    ("star", "pink", "space", "night", "spinning", "still"),
    ("car", "teal", "city", "night", "right", "pan right"),
    ("house", "white", "snow", "sunset", "still", "zoom in"),
    ("flower", "purple", "desert", "day", "growing", "still"),
)


def gallery() -> Clips:
    """Every subject, with every scene at every hour."""
    clips = []
    for i in range(3 * COLUMNS):
        second = Sprite((5 * i + 6) % 16, (i + 4) % 10) if i % 7 == 5 else None
        clips.append(
            Clip(
                subject=(i * 5 + 1) % len(SUBJECTS),
                colour=(i * 3) % len(COLOURS),
                scene=i % len(SCENES),
                time=i // COLUMNS,
                motion=MOTIONS.index("still"),
                size=2,
                camera=0,
                second=second,
                seed=300 + i,
            )
        )
    return Clips.of(clips)


def stories() -> Clips:
    """One clip per row, told in eight frames."""
    return Clips.of(
        Clip(
            subject=SUBJECTS.index(subject),
            colour=COLOURS.index(colour),
            scene=SCENES.index(scene),
            time=TIMES.index(time),
            motion=MOTIONS.index(motion),
            size=1,
            camera=CAMERAS.index(camera),
            second=None,
            seed=40 + i,
        )
        for i, (subject, colour, scene, time, motion, camera) in enumerate(STORIES)
    )


def sheet(pictures: Tensor) -> Tensor:
    """Pictures (n h w 3), n a multiple of the columns, side by side on white."""
    framed = torch.nn.functional.pad(pictures, (0, 0, GAP // 2, GAP // 2, GAP // 2, GAP // 2), value=255)
    return rearrange(framed, "(r c) h w k -> (r h) (c w) k", c=COLUMNS)


def main() -> None:
    """Render and write."""
    told = render_at(stories(), torch.linspace(0, 1, COLUMNS).expand(len(STORIES), -1), size=SIZE)
    pages = [sheet(render_stills(gallery(), size=SIZE)), sheet(rearrange(told, "n f h w k -> (n f) h w k"))]
    picture = Image.fromarray(torch.cat(pages).numpy())
    picture.save(Path(__file__).with_name("world.jpg"), quality=75, optimize=True)


if __name__ == "__main__":
    main()
