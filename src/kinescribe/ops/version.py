"""Whether a weight has been written to."""

from torch import Tensor


def version_of(weight: Tensor) -> object:
    """What is equal as long as nothing writes to ``weight``; never, for tensors made for inference count no changes."""
    return object() if weight.is_inference() else weight._version
