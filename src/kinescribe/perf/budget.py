"""How much memory may be spent, as a user says it."""

import re
from typing import Literal, get_args

from kinescribe.errors import OptionError

Memory = Literal["auto", "roomy", "low"] | int
"""How memory is spent: as little as what is free makes needful, freely, sparingly, or so many bytes of the device."""


def parse_memory(text: str | int) -> Memory:
    """What ``--memory`` takes: auto, roomy, low, or a size such as 8GB, 7.5GiB or 6000MB; a number is bytes.

    Raises ``OptionError`` for anything else.
    """
    for name in get_args(get_args(Memory)[0]):
        if text == name:
            return name
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|[kmgt])(i?)b?", str(text).strip().lower())
    count = 0
    if size is not None:
        count = round(
            float(size[1]) * (1024 if size[3] else 1000) ** ("kmgt".index(size[2]) + 1 if size[2] else 0)
        )
    if count < 1:
        raise OptionError(f"memory={text!r}: use auto, roomy, low, or a size such as 8GB")
    return count
