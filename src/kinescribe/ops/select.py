"""Which version of an operation runs: decided by what a device can do, never by its name."""

from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

FrameAttention = Literal["kernel", "products", "fused"]


def frame_attention_version(q: Tensor, heads: int) -> FrameAttention:
    """How attention over the frames (axis 1 of ``q``, ``b f n (heads d)``) is computed.

    ``kernel`` reads the clip in place; it wants a GPU with bfloat16 units, half precision and few frames.
    ``products`` are two batched products: on a CPU the ``fused`` library kernel tiles more rows than there are frames.
    """
    frames, d = q.shape[1], q.shape[-1] // heads
    if q.device.type == "cpu":
        return "products" if frames <= 64 else "fused"
    fits = frames <= 64 and d in (16, 32, 64, 128) and q.dtype in (torch.float16, torch.bfloat16)
    return "kernel" if fits and q.device.type == "cuda" and has_triton_gpu() else "fused"


def has_triton_gpu() -> bool:
    """Whether Triton is installed and the present CUDA device is of the generation it is at home on."""
    if torch.compiler.is_compiling():
        return True  # compiled code is made of Triton kernels itself, and can ask neither question
    return find_spec("triton") is not None and torch.cuda.get_device_capability() >= (8, 0)
