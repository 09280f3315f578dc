"""A UNet's products behind norms in 8 bits: copies beside the weights, which stay as they are.

What reads a norm, whose numbers are in 8 bits at no cost, has copies: the way into transformers, queries, keys, values
and the first layers of feed-forwards, and the convolutions of residual blocks. So has the end of a transformer, most of
which reads what the kernel of the gate writes. What other layers read nothing could bring into 8 bits on the way.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kinescribe.errors import OptionError
from kinescribe.models.blocks import ResidualBlock, TemporalConvStage
from kinescribe.models.transformer import SpatialTransformer, Transformer, TransformerLayer
from kinescribe.models.unet import Attending, UNet
from kinescribe.ops.ending import end_copied
from kinescribe.ops.group_norm import GroupNorm
from kinescribe.ops.linear_fp8 import AnyCopy, Copies, copied, copies_fit
from kinescribe.ops.normed_convolution import kernel_copied
from kinescribe.ops.select import has_eight_bit_units, taps_serve
from kinescribe.ops.tiles import end_tile
from kinescribe.ops.version import version_of

Weights = tuple[Tensor, ...]
Maker = Callable[[Weights], AnyCopy]
State = tuple[tuple[object, torch.dtype, torch.device], ...]

MANY = 1 << 20
"""Rows with which any width has a product that ever has one."""

_HELD: WeakKeyDictionary[UNet, tuple[Copies, dict[Tensor, State]]] = WeakKeyDictionary()
_INSIDE: WeakKeyDictionary[UNet, tuple[nn.Module, ...]] = WeakKeyDictionary()


def copies_of(unet: UNet) -> Copies:
    """The copies of a UNet's weights as these are now, where they are now; kept until :func:`forget`.

    Those whose weights have been written to since are renewed in the same memory.
    """
    groups = list(_with_makers(unet))
    states = {group[0]: tuple((version_of(w), w.dtype, w.device) for w in group) for group, _ in groups}
    copies, known = _HELD.get(unet, (Copies({}), {}))
    if _places(states) != _places(known):
        copies, known = Copies({group[0]: _made(group, maker) for group, maker in groups}), states
    for group, maker in groups:
        if known[group[0]] != states[group[0]]:
            _renew(copies.of[group[0]], group, maker)
    _HELD[unet] = copies, states
    return copies


def forget(unet: UNet) -> None:
    """Give the memory of a UNet's copies back."""
    _HELD.pop(unet, None)
    _INSIDE.pop(unet, None)


def groups_of(unet: UNet) -> Iterator[Weights]:
    """The weights that have copies; several together where they read the same input.

    What attention reads at the finest level has none, but for the wider transformer of the stem: products of so few
    inputs are no faster in 8 bits.
    """
    over_text = {module.layer for module in _inside(unet) if isinstance(module, SpatialTransformer)}
    for module in _inside(unet):
        if not isinstance(module, TransformerLayer):
            continue
        first, second = module.attention1, module.attention2
        groups: list[Weights] = [
            (first.q.weight, first.k.weight, first.v.weight),
            (second.q.weight,)
            if module in over_text
            else (second.q.weight, second.k.weight, second.v.weight),
            (module.feed_forward.up.weight,),
        ]
        if module.attention1.q.in_features == _narrow(unet):
            groups = groups[-1:]
        yield from (group for group in groups if all(map(copies_fit, group)))


def normed_of(unet: UNet) -> Iterator[Weights]:
    """The kernels of convolutions and the linear layers that have copies, each with weight and bias of the group norm
    that it reads.
    """
    for module in _inside(unet):
        pairs: list[tuple[nn.Conv2d | nn.Linear, GroupNorm]] = []
        if isinstance(module, ResidualBlock):
            pairs = [(module.conv1, module.norm1), (module.conv2, module.norm2)]
        elif isinstance(module, TemporalConvStage):
            pairs = [(module.conv, module.norm)]
        elif isinstance(module, Transformer):
            pairs = [(module.project_in, module.norm)]
        for layer, norm in pairs:
            if (copies_fit if isinstance(layer, nn.Linear) else taps_serve)(layer.weight):
                yield layer.weight, norm.weight, norm.bias


def ends_of(unet: UNet) -> Iterator[Weights]:
    """What the copies of the ends of transformers are made of: the last weight and, in front of it, the feed-forward's
    two with the bias of the first, and weight and bias of the norm.
    """
    blocks = (module for module in _inside(unet) if isinstance(module, Attending))
    for module in chain.from_iterable((block.spatial, block.temporal) for block in blocks):
        if module is None:
            continue
        out, forward, norm = module.project_out.weight, module.layer.feed_forward, module.layer.norm3
        if taps_serve(out) and end_tile(MANY, len(out)) is not None and copies_fit(forward.up.weight):
            yield out, forward.down.weight, forward.up.weight, forward.up.bias, norm.weight, norm.bias


def _inside(unet: UNet) -> tuple[nn.Module, ...]:
    """The modules that can have copies, looked for once: every clip asks, and a GPU waits for the answer."""
    if unet not in _INSIDE:
        kinds = ResidualBlock, TemporalConvStage, Transformer, TransformerLayer, Attending
        _INSIDE[unet] = tuple(module for module in unet.modules() if isinstance(module, kinds))
    return _INSIDE[unet]


def _with_makers(unet: UNet) -> Iterator[tuple[Weights, Maker]]:
    """All weights that have copies, with what makes these."""
    yield from ((group, copied) for group in groups_of(unet))
    yield from ((group, lambda parts: kernel_copied(*parts)) for group in normed_of(unet))
    yield from ((group, lambda parts: end_copied(*parts)) for group in ends_of(unet))


def _narrow(unet: UNet) -> int | None:
    """Channels of the finest level, where others have more."""
    return unet.config.width if unet.config.width < max(unet.config.channels) else None


def copy_bytes(unet: UNet) -> int:
    """What the copies of a UNet take, with numbers or without."""
    linear = sum(weight.numel() + 8 * len(weight) for group in groups_of(unet) for weight in group)
    kernels = sum(kernel.numel() + 12 for kernel, *_ in normed_of(unet))
    return linear + kernels + sum((len(out) + 4) * down.shape[1] + 4 for out, down, *_ in ends_of(unet))


def require_eight_bits(device: torch.device, dtype: torch.dtype) -> None:
    """Raise ``OptionError`` where the preset cannot be faster."""
    if not has_eight_bit_units(device):
        raise OptionError(
            "preset=fast8 needs a GPU that multiplies 8-bit floating-point numbers (NVIDIA, compute capability 8.9 "
            "or newer) and Triton: leave the preset out, or use preset=reuse"
        )
    if dtype not in (torch.float16, torch.bfloat16):
        raise OptionError("preset=fast8 needs a model in half precision: use --dtype float16 or bfloat16")


def _places(states: dict[Tensor, State]) -> dict[int, list[tuple[torch.dtype, torch.device]]]:
    """Which weights there are, in which format and where: other copies are needed where that changes."""
    return {id(weight): [place[1:] for place in state] for weight, state in states.items()}


@torch.inference_mode(False)
@torch.no_grad()
def _made(group: Weights, maker: Maker) -> AnyCopy:
    return maker(group)


@torch.inference_mode()
def _renew(copy: AnyCopy, group: Weights, maker: Maker) -> None:
    """In place: what was recorded reads that memory."""
    new = _made(group, maker)
    for name, tensor in vars(new).items():
        getattr(copy, name).copy_(tensor)
