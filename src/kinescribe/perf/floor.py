"""The least time that a device can need: the exact matrix work of a request over the device's matrix speed.

Operations are those of products, convolutions and attention, counted on the real networks; norms, activations and
copies count nothing. The two branches of guidance count as two passes, whatever they share, and a program that
repeats work that need not be repeated has the same floor as one that does not.
"""

import torch

from kinescribe.perf.demand import Work, decoding, denoising_in_whole, encoding, reading
from kinescribe.perf.outline import Outline
from kinescribe.perf.speed import speeds

HALF_PRECISION_SPEEDS = {"NVIDIA H200": 790e12, "NVIDIA H100 80GB HBM3": 798e12}
"""Operations a second of a product of 8192 x 8192 random numbers in bfloat16, measured with torch 2.11; float16
is as fast. Other devices and formats are measured when asked for."""


def clip_flops(model: Outline, work: Work) -> int:
    """Operations of a whole request, from prompt, picture or clip to frames."""
    stages = work.stages(model)
    flops = reading(model, work).flops + work.passes * step_flops(model, work)
    if "encoding" in stages:
        flops += work.encoded * encoding(model, work, 1).flops
    return flops + work.clips * work.frames * decoding(model, work, 1).flops


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
