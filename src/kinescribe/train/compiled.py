"""Compilation of a model in training, with the plain model to fall back on."""

from torch import nn


def compile_in_place(module: nn.Module) -> None:
    """Compile `module` for the shapes it meets; parts that cannot be compiled run as they are.

    Parameter names stay the same, and calling `module.forward` goes past the compiled code.
    """
    # imported here: it takes a second, and only compiled runs need it
    from torch._dynamo import config

    config.suppress_errors = True
    # Replaying recorded kernels takes the host out of the step: small models are bound by their launches.
    module.compile(dynamic=False, mode="reduce-overhead")
