"""Text, pictures and clips into video with the open ModelScope family of models.

``kinescribe.load()`` gives a pipeline; ``pipeline("a red balloon over the sea").save("clip.mp4")`` a clip.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kinescribe.media.video import Video as Video
    from kinescribe.options import ImageToVideo as ImageToVideo
    from kinescribe.options import TextToVideo as TextToVideo
    from kinescribe.options import VideoToVideo as VideoToVideo
    from kinescribe.pipelines.image_to_video import ImageToVideoPipeline as ImageToVideoPipeline
    from kinescribe.pipelines.load import load as load
    from kinescribe.pipelines.text_to_video import TextToVideoPipeline as TextToVideoPipeline
    from kinescribe.pipelines.video_to_video import VideoToVideoPipeline as VideoToVideoPipeline

_HOMES = {
    "ImageToVideo": "kinescribe.options",
    "ImageToVideoPipeline": "kinescribe.pipelines.image_to_video",
    "TextToVideo": "kinescribe.options",
    "TextToVideoPipeline": "kinescribe.pipelines.text_to_video",
    "Video": "kinescribe.media.video",
    "VideoToVideo": "kinescribe.options",
    "VideoToVideoPipeline": "kinescribe.pipelines.video_to_video",
    "load": "kinescribe.pipelines.load",
}
__all__ = [  # noqa: F822 - resolved by __getattr__
    "ImageToVideo",
    "ImageToVideoPipeline",
    "TextToVideo",
    "TextToVideoPipeline",
    "Video",
    "VideoToVideo",
    "VideoToVideoPipeline",
    "load",
]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that ``import kinescribe`` costs nothing."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kinescribe' has no attribute {name!r}")
