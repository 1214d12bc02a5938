"""The lengths of rows: a few numbers and a histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUM_BINS = 12


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of the histogram: rows of `low` to `high` tokens, both included."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of rows in tokens."""

    shortest: int
    median: int
    ninety_fifth: int
    longest: int
    histogram: tuple[Bin, ...]


def measure(lengths: npt.ArrayLike) -> Lengths | None:
    """Summarise lengths, or return None where there are none."""
    ordered = np.sort(np.asarray(lengths, dtype=np.int64))
    if not len(ordered):
        return None
    last = len(ordered) - 1
    return Lengths(
        shortest=int(ordered[0]),
        median=int(ordered[last // 2]),
        ninety_fifth=int(ordered[round(last * 0.95)]),
        longest=int(ordered[-1]),
        histogram=_histogram(ordered),
    )


def _histogram(ordered: npt.NDArray[np.int64]) -> tuple[Bin, ...]:
    shortest, longest = int(ordered[0]), int(ordered[-1])
    width = max(1, -(-(longest - shortest + 1) // NUM_BINS))
    num_bins = -(-(longest - shortest + 1) // width)
    counts = np.bincount((ordered - shortest) // width, minlength=num_bins).tolist()
    lows = [shortest + index * width for index in range(num_bins)]
    return tuple(Bin(low, low + width - 1, rows) for low, rows in zip(lows, counts, strict=True))
