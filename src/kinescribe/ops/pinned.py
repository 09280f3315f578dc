"""Main memory that a GPU reads and writes by itself, while the host does other things."""

import torch
from torch import Tensor


def main_memory(size: int, *, pinned: bool = True) -> Tensor:
    """So many bytes; where the system grants no more pinned memory others, which are slower to copy but as good."""
    if pinned:
        try:
            return torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)
        except RuntimeError:
            torch.cuda.empty_cache()
    return torch.empty(size, dtype=torch.uint8, device="cpu")
