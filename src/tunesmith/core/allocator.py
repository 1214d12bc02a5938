"""Keeps freed memory in the process, where the C library can be told to.

Each micro-batch frees and takes again some hundred megabytes. glibc gives large blocks back to the
system at once, which then has to map and clear every page anew: on two cores that was 5% of a
step's time (benchmarks/README.md).

Where weights are put together for a layer's time and let go again, they lie between activations
that stay, and what they leave is in pieces that nothing else fits into: a rank then kept as much
free memory as it used. So blocks of `SMALL_BLOCK` and more are given back there.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD = -1  # names and numbers of glibc's malloc.h
M_MMAP_THRESHOLD = -3
NEVER = 2**31 - 1
SMALL_BLOCK = 2**20


def keep_freed_memory(smaller_than: int = NEVER) -> bool:
    """Tell glibc to reuse freed blocks below so many bytes; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, smaller_than) and mallopt(M_TRIM_THRESHOLD, NEVER))
