"""`kinescribe refine`: a clip made anew, larger or in more detail."""

import secrets
from typing import Annotated, Any

from cyclopts import Parameter

from kinescribe.catalog import default_model
from kinescribe.cli import flags
from kinescribe.cli.batch import DRAWN_SEEDS, Item
from kinescribe.cli.make import make_one
from kinescribe.cli.prompts import one_prompt
from kinescribe.cli.source import name_after, read_source
from kinescribe.cli.terminal import Speaker
from kinescribe.options import VideoToVideo, video_to_video

Clip = Annotated[
    str,
    Parameter(name="clip", help="The clip: mp4, mov, webm, mkv, avi, GIF, WebP, or a folder of PNG frames."),
]
Words = Annotated[str, Parameter(help="What the clip shows, in words.")]


@flags.request_flags(VideoToVideo, leave_out=("prompt",))
def refine(
    clip: Clip,
    /,
    *prompt: Words,
    model: flags.OwnModel = None,
    making: flags.Making = flags.USUAL,
    terminal: Speaker,
    **fields: Any,
) -> None:
    """Make a clip anew: larger, in more detail, or in other words."""
    typed = flags.with_size(fields, making.size)
    request = video_to_video(
        **{"seed": secrets.randbelow(DRAWN_SEEDS), **typed, "prompt": one_prompt(prompt)}
    )
    engine = making.engine(model or default_model("video-to-video"), "video-to-video")
    making.judge(engine)(request.prompt)
    source = read_source(clip, "video-to-video")
    item = Item(
        label="clip",
        request=request,
        error=None,
        target=making.output or name_after(clip, "-refined", overwrite=making.overwrite),
        source=source,
    )
    make_one(item, engine, making.saving(), terminal)
