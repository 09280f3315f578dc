"""The names that scripts for diffusers' pipelines of this family import.

Replacing ``diffusers`` by ``kinescribe.compat.diffusers`` in the imports is all a script needs::

    from kinescribe.compat.diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
    from kinescribe.compat.diffusers.utils import export_to_video
"""

from kinescribe.compat.diffusers.call import I2VGenXLPipelineOutput, TextToVideoSDPipelineOutput
from kinescribe.compat.diffusers.export import export_to_gif, export_to_video
from kinescribe.compat.diffusers.image_to_video import I2VGenXLPipeline
from kinescribe.compat.diffusers.pictures import load_image, load_video
from kinescribe.compat.diffusers.pipeline import DiffusionPipeline
from kinescribe.compat.diffusers.schedulers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from kinescribe.compat.diffusers.text_to_video import TextToVideoSDPipeline
from kinescribe.compat.diffusers.video_to_video import VideoToVideoSDPipeline

__all__ = [
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DiffusionPipeline",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "I2VGenXLPipeline",
    "I2VGenXLPipelineOutput",
    "LCMScheduler",
    "PNDMScheduler",
    "TextToVideoSDPipeline",
    "TextToVideoSDPipelineOutput",
    "UniPCMultistepScheduler",
    "VideoToVideoSDPipeline",
    "export_to_gif",
    "export_to_video",
    "load_image",
    "load_video",
]
