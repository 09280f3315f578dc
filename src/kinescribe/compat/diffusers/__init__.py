"""The names that scripts for diffusers' text-to-video pipeline import.

Replacing ``diffusers`` by ``kinescribe.compat.diffusers`` in the imports is all a script needs::

    from kinescribe.compat.diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
    from kinescribe.compat.diffusers.utils import export_to_video
"""

from kinescribe.compat.diffusers.call import TextToVideoSDPipelineOutput
from kinescribe.compat.diffusers.export import export_to_gif, export_to_video
from kinescribe.compat.diffusers.pipeline import DiffusionPipeline, TextToVideoSDPipeline
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

__all__ = [
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DiffusionPipeline",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "TextToVideoSDPipeline",
    "TextToVideoSDPipelineOutput",
    "UniPCMultistepScheduler",
    "export_to_gif",
    "export_to_video",
]
