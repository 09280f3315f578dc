"""Functions of Triton kernels as operations that compilers and autograd know, called directly where neither looks."""

from collections.abc import Callable
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class Operation(Generic[P, T]):
    """A function whose first argument is a tensor, run on the device of that; ``known`` is the same as torch's own.

    Torch imports its compiler, which takes seconds, when an operation of its own is first called.
    """

    def __init__(self, name: str, function: Callable[P, T]) -> None:
        @wraps(function)
        def on_its_device(*args: P.args, **kwargs: P.kwargs) -> T:
            # a launch goes to the current device
            with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]
                return function(*args, **kwargs)

        self.plain = on_its_device
        self.known = torch.library.custom_op(
            f"kinescribe::{name}", on_its_device, mutates_args=(), device_types="cuda"
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As the function."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return self.known(*args, **kwargs)
        return self.plain(*args, **kwargs)


def operation(name: str) -> Callable[[Callable[P, T]], Operation[P, T]]:
    """Decorator that makes an :class:`Operation`."""
    return lambda function: Operation(name, function)
