"""The exponential moving average of the weights, which is what gets sampled, judged and exported."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """A shadow of a module whose parameters follow it slowly; frozen parameters stay as they are.

    The decay warms up as `min(decay, (1 + n) / (10 + n))` after n updates, so that early averages are not
    dominated by the initial weights. `module` is in evaluation mode, in float32, and takes no gradients.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        learnt = {name: tensor for name, tensor in source.named_parameters() if tensor.requires_grad}
        self._source: list[Tensor] = list(learnt.values())
        self._shadow: list[Tensor] = [self.module.get_parameter(name) for name in learnt]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the source's present weights; `updates` counts the updates before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self._shadow, self._source, 1 - decay)
