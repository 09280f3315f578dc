"""`Video`: what a generation returns."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from kinescribe.errors import OptionError
from kinescribe.media.frames import Frames


@dataclass(frozen=True, eq=False)
class Video:
    """Frames `uint8 (f h w 3)` in RGB, frames per second, and the recipe that made them (empty if unknown).

    `notes` says in short lines what reading a file changed, such as sound that was left out, or how a clip was made.
    `name` is that of the file that a clip was read from, without its folder; a clip made here has none.
    """

    frames: Frames
    fps: int | float
    recipe: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def seconds(self) -> float:
        """Playing time."""
        return len(self.frames) / self.fps

    def save(self, path: str | Path, *, overwrite: bool = False, metadata: bool = True) -> Path:
        """Write .mp4, .webm, .gif, .webp, or PNG frames into a folder; the absolute path back.

        The recipe goes along unless `metadata` is False. See `kinescribe.media.write.write_video`; for a file
        object or a network answer, `encoded`.
        """
        from kinescribe.media.write import write_video

        recipe = self.recipe if metadata and self.recipe else None
        return write_video(self.frames, self.fps, path, recipe=recipe, overwrite=overwrite)

    def encoded(self, extension: str = ".mp4", *, metadata: bool = True) -> bytes:
        """The bytes of the file that `save` would write, by way of a temporary one; `extension` as its name's end."""
        with tempfile.TemporaryDirectory(prefix="kinescribe-") as folder:
            path = self.save(Path(folder) / f"clip{extension}", metadata=metadata)
            if path.is_dir():
                raise OptionError(
                    f"extension={extension!r}: frames are many files: use .mp4 .webm .gif .webp"
                )
            return path.read_bytes()

    def sheet(self, path: str | Path, columns: int | None = 8, *, overwrite: bool = False) -> Path:
        """Write a contact sheet of the frames as PNG, `columns` in a row (None: near to a square)."""
        from kinescribe.media.sheet import write_sheet

        comment = json.dumps(self.recipe) if self.recipe else None
        return write_sheet(self.frames, path, columns=columns, comment=comment, overwrite=overwrite)
