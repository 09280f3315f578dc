"""Compilation of a model in training, with the plain model to fall back on."""

import torch
from torch import nn


def compile_in_place(module: nn.Module) -> None:
    """Compile `module` for the shapes it meets; parts that cannot be compiled run as they are.

    Parameter names stay the same, and calling `module.forward` goes past the compiled code.
    """
    torch._dynamo.config.suppress_errors = True
    module.compile(dynamic=False)
