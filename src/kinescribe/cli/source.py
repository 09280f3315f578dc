"""The picture or clip that is put in: read and judged before any model is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinescribe.catalog import Kind
from kinescribe.media.output import EXTENSIONS, free_name
from kinescribe.media.recipe import SourceInput


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that is put in: what of it the pipeline is given, and what a recipe says of it.

    `content` is the picture, `uint8 (h w 3)`, or the clip as a `Video`.
    """

    path: str
    content: Any
    facts: SourceInput

    @property
    def given(self) -> Any:
        """A clip as it was read; the path of a picture, whose name an array would not have."""
        return self.path if self.facts.fps is None else self.content

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.facts.width, self.facts.height


def read_source(path: str, task: Kind) -> Source:
    """The picture, or for video-to-video the clip, at `path`; OptionError if it cannot be read."""
    if task == "video-to-video":
        from kinescribe.media.read import read_video

        clip = read_video(path)
        facts = SourceInput.of(clip.name, clip.frames, float(clip.fps))
        return Source(path=path, content=clip, facts=facts)
    from kinescribe.media.images import read_image

    picture = read_image(path)
    return Source(path=path, content=picture, facts=SourceInput.of(Path(path).name, picture[None]))


def name_after(path: str, ending: str = "", *, overwrite: bool) -> str:
    """Where a clip made of `path` goes unless told: beside it, as its name with `ending`; a free name.

    With an ending the format stays, where it is one that can be written; without, and else, it is mp4.
    """
    source = Path(path).expanduser().absolute()
    if ending and source.is_dir():
        frames = source.with_name(source.name + ending)
        return f"{frames if overwrite else free_name(frames)}/"
    suffix = source.suffix if ending and source.suffix.lower() in EXTENSIONS else ".mp4"
    beside = source.with_name(f"{source.stem}{ending}{suffix}")
    return str(beside if overwrite else free_name(beside))
