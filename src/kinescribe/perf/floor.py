"""The least time that a device can need: the exact matrix work of a request over the device's matrix speed.

Operations are those of products, convolutions and attention, counted on the real networks; norms, activations and
copies count nothing. The two branches of guidance count as two passes, whatever they share, and a program that
repeats work that need not be repeated has the same floor as one that does not.
"""

import torch

from kinescribe.perf.demand import Work, denoising_in_whole, whole
from kinescribe.perf.outline import Outline
from kinescribe.perf.speed import speeds

HALF_PRECISION_SPEEDS = {"NVIDIA H200": 790e12}
"""Operations a second of a large product in half precision, rounded from the 787e12 that torch 2.11 reached. Other
devices and formats are measured when asked for."""


def clip_flops(model: Outline, work: Work) -> int:
    """Operations of a whole request, from prompt, picture or clip to frames."""
    return sum(whole(name, model, work, merged=False).flops for name in work.stages(model))


def step_flops(model: Outline, work: Work) -> int:
    """Operations of one step of all clips, both branches where they are guided."""
    return denoising_in_whole(model, work, merged=False).flops


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product: of the table if the device is in it, else measured once."""
    if device.type == "cuda" and dtype in (torch.float16, torch.bfloat16):
        known = HALF_PRECISION_SPEEDS.get(torch.cuda.get_device_name(device))
        if known is not None:
            return known
    return speeds(device, dtype).matrix
