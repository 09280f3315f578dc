"""Functions of Triton kernels as operations that compilers and autograd know, called directly where neither looks."""

from collections.abc import Callable
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


class Operation(Generic[P, T]):
    """A function whose first argument is a tensor, run on the device of that; ``known`` is the same as torch's own.

    Torch imports its compiler, which takes seconds, when an operation of its own is first called.
    Tensors without numbers are for ``without_numbers`` to answer, which :meth:`faked` sets.
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
        self.without_numbers: Callable[P, T] = self.known

    def faked(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorator of what makes results of the right shape and layout from tensors without numbers."""
        self.known.register_fake(function)
        self.without_numbers = function
        return function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As the function."""
        first = args[0]
        if isinstance(first, Tensor) and first.device.type == "meta":
            return self.without_numbers(*args, **kwargs)
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return self.known(*args, **kwargs)
        return self.plain(*args, **kwargs)


def operation(name: str) -> Callable[[Callable[P, T]], Operation[P, T]]:
    """Decorator that makes an :class:`Operation`."""
    return lambda function: Operation(name, function)
