"""Bounds the process's memory, so that an allocation fails where the kernel would kill the process.

The bound is what the process has now and what the machine can still give, without a headroom for
the kernel. It is RLIMIT_DATA: private writable memory, which is what tensors are; files that are
mapped do not count. The bound follows the machine when it is set again, so memory that others give
back is not lost to the run.
"""

from __future__ import annotations

import sys

from tunesmith.core import hardware

HEADROOM_BYTES = 128 * 2**20
HEADROOM_SHARE = 0.05  # of a small machine's memory


def bound_memory(num_ranks: int = 1) -> int | None:
    """Set the bound anew and return it in bytes; None where the system has none (not Linux).

    Ranks on one machine each get their share of what it can still give.
    """
    if not sys.platform.startswith("linux"):
        return None
    import resource  # absent on Windows, so not at the top

    headroom = min(HEADROOM_BYTES, int(HEADROOM_SHARE * hardware.memory_limit_bytes()))
    growth = max(0, hardware.available_memory_bytes(swap=True) - headroom) // num_ranks
    bound = hardware.private_bytes() + growth
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        bound = min(bound, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    return bound
