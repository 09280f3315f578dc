"""Compilation of models in training, with the plain model to fall back on."""

from torch import nn

from kinescribe.models.blocks import ResidualBlock
from kinescribe.models.transformer import SpatialTransformer, TemporalTransformer
from kinescribe.models.unet import UNet

BLOCKS = (ResidualBlock, SpatialTransformer, TemporalTransformer)
KINDS = 64
"""More kinds and sizes of block than any UNet here has."""


def compile_in_place(module: nn.Module) -> None:
    """Compile `module` as a whole for the shapes it meets; parts that cannot be compiled run as they are.

    Parameter names stay the same, and calling `module.forward` goes past the compiled code.
    """
    _forgive()
    # Replaying recorded kernels takes the host out of the step: small models are bound by their launches.
    module.compile(dynamic=False, mode="reduce-overhead")


def compile_blocks(unet: UNet) -> None:
    """Compile a UNet block by block: blocks of one kind and size share their code.

    The embedded model has 23 blocks of 9 kinds, which compile in less than half the time of the whole. Its steps are
    large enough to hide the launches.
    """
    _forgive()
    for module in unet.modules():
        if isinstance(module, BLOCKS):
            module.compile(dynamic=False)
    unet.norm.compile(dynamic=False)


def _forgive() -> None:
    # imported here: it takes a second, and only compiled runs need it
    from torch._dynamo import config

    config.suppress_errors = True
    config.recompile_limit = KINDS
