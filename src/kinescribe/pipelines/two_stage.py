"""Two models one after the other: a clip is made, then refined; its frames pass in memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from kinescribe.components import Components
from kinescribe.errors import OptionError
from kinescribe.media.video import Video
from kinescribe.options import VideoToVideo
from kinescribe.perf.fp8 import forget
from kinescribe.pipelines.denoise import Step
from kinescribe.pipelines.memory import release
from kinescribe.pipelines.video_to_video import VideoToVideoPipeline


def refined(
    first: Iterator[Step | Video],
    load_second: Callable[[], VideoToVideoPipeline],
    request: VideoToVideo,
    *,
    free_first: Callable[[], None] | None = None,
) -> Iterator[Step | Video]:
    """The steps of ``first``, then those of the second model on the clip that came of it, last its ``Video``.

    ``free_first`` gives the first model's memory back before the second is loaded (see ``freed``); None keeps
    both. A step's ``stage`` says which of the two it belongs to. The recipe holds that of the first clip.
    """
    made: Video | None = None
    for item in first:
        if isinstance(item, Video):
            made = item
        else:
            yield replace(item, stage=f"first stage, {item.stage}")
    if made is None:
        raise OptionError("the first stage made no clip: give one request, not a list")
    if free_first is not None:
        free_first()
        release()
    for item in load_second().stream(made, request):
        yield item if isinstance(item, Video) else replace(item, stage=f"second stage, {item.stage}")


def freed(components: Components) -> None:
    """Give back the memory of a model's weights and of what was made of them, whoever still holds it.

    It cannot be used any more.
    """
    forget(components.unet)
    components.adapters.settle()
    components.to("meta")
