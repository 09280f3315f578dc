"""The heap of the C library, kept from one layer of a network to the next on a processor.

Unless told, glibc hands the memory of every large tensor back to the system as soon as it is freed, and the system
clears it page by page when the next layer asks for it again. Other C libraries have no such knobs, and nothing happens.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE = 1 << 30
"""Bytes: what is freed at the top of the heap stays there up to this size, what is asked for comes from there."""
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which a user says how the heap shall be; they are left alone."""


def keep_freed() -> None:
    """From now on keep freed memory for what is asked for next, in the whole process."""
    set_option = getattr(_libc(), "mallopt", None)
    if set_option is None or any(name in os.environ for name in OWN_SETTINGS):
        return
    set_option(M_TRIM_THRESHOLD, LARGE)
    set_option(M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Hand what is free in the heap back to the system."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
