"""``pipeline``, ``Tasks`` and ``OutputKeys`` as scripts for ModelScope's video models use them.

    p = pipeline("text-to-video-synthesis", "models/text-to-video-synthesis")
    p({"text": "A panda eating bamboo on a rock."}, output_video="./output.mp4")[OutputKeys.OUTPUT_VIDEO]

Tasks are text-to-video-synthesis, image-to-video and video-to-video. What the originals hard-code is the default
here, and noise comes from torch's global generator, so that ``torch.manual_seed`` before a call gives the
original's noise. What they cannot do, these can: see ``call.Door.__call__``.
"""

from kinescribe.compat.modelscope.call import OutputKeys
from kinescribe.compat.modelscope.pipelines import Tasks, pipeline
from kinescribe.compat.modelscope.stages import ImageToVideo, VideoToVideo
from kinescribe.compat.modelscope.text_to_video import TextToVideoSynthesis

__all__ = ["ImageToVideo", "OutputKeys", "Tasks", "TextToVideoSynthesis", "VideoToVideo", "pipeline"]
