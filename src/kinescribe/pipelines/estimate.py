"""How long and how much memory a large model takes on a processor: said before the work, since it is a lot."""

import time
from functools import cache

import torch

from kinescribe.components import Components
from kinescribe.pipelines.memory import free_bytes
from kinescribe.pipelines.settings import Settings

LARGE = 300e6
"""Parameters of a UNet from which a processor is slow; the embedded model has 6 million."""

# Counted on the published 1.7 B model: one pass over one clip of 16 frames of 256 x 256.
PASS_FLOPS, PASS_PARAMETERS, PASS_PIXELS = 4.887e12, 1.411e9, 16 * 256 * 256
SHARE_OF_MATRIX_SPEED = 0.4  # convolutions and attention beside a plain matrix product
WORKING_BYTES = 2.5e9  # activations of such a pass in float32, both branches, and the decoder


def slow_processor_note(components: Components, job: Settings, clips: int = 1) -> str | None:
    """One line with about how many minutes and gigabytes ``clips`` of ``job`` take; None if that is little.

    The speed is measured here by a matrix product of some milliseconds. Only for a CPU and a large model.
    """
    weights = list(components.unet.parameters())
    count = sum(weight.numel() for weight in weights)
    if components.device.type != "cpu" or count < LARGE:
        return None
    size = job.frames * job.width * job.height / PASS_PIXELS
    passes = job.steps * (2 if job.guidance > 1 else 1) * clips
    flops = passes * PASS_FLOPS * size * count / PASS_PARAMETERS
    minutes = flops / (matrix_speed(components.dtype) * SHARE_OF_MATRIX_SPEED) / 60
    held = sum(w.numel() * w.element_size() for net in components.networks for w in net.parameters())
    need, free = held + WORKING_BYTES * size, free_bytes()
    there = f" ({(free + held) / 1e9:.0f} GB are there)" if free is not None else ""
    return (
        f"{components.spec.name} on a processor: about {max(minutes, 1):.0f} minutes and {need / 1e9:.0f} GB "
        f"of memory{there}; a GPU takes seconds, and fewer --frames, a smaller --size or fewer --steps less"
    )


@cache
def matrix_speed(dtype: torch.dtype) -> float:
    """Operations a second of a matrix product on this processor, with the threads torch has now."""
    a = torch.ones(1024, 1024, dtype=dtype)
    _ = a @ a  # the first product starts the threads
    started, rounds = time.perf_counter(), 3
    for _ in range(rounds):
        _ = a @ a
    return rounds * 2 * 1024**3 / max(time.perf_counter() - started, 1e-6)
