"""Tells an allocation that failed from every other error, and lets go of what it holds.

torch has no common class for it: CUDA raises its own, the CPU allocator a RuntimeError that only
its text tells, numpy and Python a MemoryError.
"""

from __future__ import annotations

import traceback

from tunesmith.core.errors import TunesmithError

# In lower case: torch on CUDA; torch on Linux, on Windows; C++ libraries; CUDA's own libraries.
WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError) or isinstance(error, TunesmithError):
        return False
    text = str(error).lower()
    return any(word in text for word in WORDS)


def let_go(error: BaseException | None) -> None:
    """Clear the frames that the error came through: their variables hold what filled memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
