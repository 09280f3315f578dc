"""Which version of an operation runs: decided by what a device can do, never by its name."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

FrameAttention = Literal["kernel", "products", "fused"]
Capability = tuple[int, int]
"""A generation of CUDA devices."""
_STOOD_FOR: ContextVar[Capability | None] = ContextVar("stood_for", default=None)
PIXELS_FOR_PHASES = 2048
WIDEST_FUSED_HEAD = 256
ATTENTION_ORDER = [
    SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH,
]  # fmt: skip


def frame_attention_version(q: Tensor, heads: int) -> FrameAttention:
    """How attention over the frames (axis 1 of ``q``, ``b f n (heads d)``) is computed.

    ``kernel`` reads the clip in place; it wants a GPU with bfloat16 units, half precision and few frames.
    ``products`` are two batched products: on a CPU the ``fused`` library kernel tiles more rows than there are frames.
    """
    frames, d = q.shape[1], q.shape[-1] // heads
    if q.device.type == "cpu":
        return "products" if frames <= 64 else "fused"
    fits = frames <= 64 and d in (16, 32, 64, 128) and q.dtype in (torch.float16, torch.bfloat16)
    return "kernel" if fits and _on_gpu_with_triton(q) else "fused"


def best_attention_first(q: Tensor) -> AbstractContextManager[object]:
    """The library's attention kernels, cuDNN's first; each passes on what it cannot do.

    Training and other devices keep the library's own order.
    """
    if q.device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return nullcontext()
    return sdpa_kernel(ATTENTION_ORDER, set_priority=True)


def wide_head_pays(q: Tensor, heads: int) -> bool:
    """Whether attention goes by products, see ``ops.attention``: one head wider than fast fused kernels take.

    On a GPU with bfloat16 units, in half precision, for inference; compiled code has the library's own.
    """
    if heads > 1 or q.shape[-1] <= WIDEST_FUSED_HEAD or q.dtype not in (torch.float16, torch.bfloat16):
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    capability = _capability(q)
    return capability is not None and capability >= (8, 0)


def kernels_serve(x: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels for inference may take these: a GPU with Triton, half precision, no gradients wanted.

    All are of one dtype: the mixed precision of training is the library's affair.
    """
    if x.device.type == "cpu" or x.dtype not in (torch.float16, torch.bfloat16):
        return False
    tensors = (x, *(other for other in others if other is not None))
    if any(t.dtype != x.dtype for t in tensors):
        return False
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)) and _on_gpu_with_triton(x)


def phases_pay(x: Tensor, weight: Tensor) -> bool:
    """Whether ``ops.upsample`` goes by phases: a GPU, no gradients wanted, pixels enough for the kernels' sums."""
    wanted = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return _capability(x) is not None and not wanted and x.numel() // x.shape[1] >= PIXELS_FOR_PHASES


def windows_serve(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a convolution along time is a product of windows, see ``ops.temporal``: where kernels write these."""
    return not torch.compiler.is_compiling() and kernels_serve(x, *others)


def products_serve(x: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels for matrix products may take these: as :func:`kernels_serve`, and the tensor cores of sm_90.

    Their tiles are chosen for those; on other generations the library multiplies, and in compiled code, which itself
    joins what follows a product.
    """
    if torch.compiler.is_compiling() or not kernels_serve(x, *others):
        return False
    capability = _capability(x)
    return capability is not None and capability[0] == 9


def taps_serve(kernel: Tensor) -> bool:
    """Whether a convolution's kernel can have a copy in 8 bits where it is, see ``ops.normed_convolution``.

    On a GPU the product of taps must know its generation and its sizes; elsewhere the copy's numbers are what counts.
    """
    capability = _capability(kernel)
    grain = 16 if capability is None else 64
    fits = kernel.shape[0] % grain == 0 and kernel.shape[1] % grain == 0
    return fits and (capability is None or capability[0] == 9)


def eight_bits_serve(x: Tensor) -> bool:
    """Whether products of 8-bit floating-point numbers are made by the GPU's units for them, from half precision."""
    return kernels_serve(x) and has_eight_bit_units(x.device)


def has_eight_bit_units(device: torch.device) -> bool:
    """Whether a device multiplies 8-bit floating-point numbers, and Triton is there to make them."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 9)


@contextmanager
def standing_for(capability: Capability | None) -> Iterator[None]:
    """While the block runs, tensors without numbers stand for those of a CUDA device of that generation, if any.

    So what is counted on them is what that device would do.
    """
    token = _STOOD_FOR.set(capability)
    try:
        yield
    finally:
        _STOOD_FOR.reset(token)


def _capability(x: Tensor) -> Capability | None:
    """The generation of the CUDA device that a tensor is on or stands for; None for other devices."""
    if x.device.type == "cuda":
        return torch.cuda.get_device_capability(x.device)
    return _STOOD_FOR.get() if x.device.type == "meta" else None


def _on_gpu_with_triton(x: Tensor) -> bool:
    """Whether a tensor is on a CUDA device of a generation that Triton is at home on, and Triton installed."""
    if x.device.type == "cuda" and torch.compiler.is_compiling():
        return True  # compiled code is made of Triton kernels itself, and can ask neither question
    capability = _capability(x)
    return capability is not None and capability >= (8, 0) and find_spec("triton") is not None
