"""Scores that each row has by itself: of candidates, of tunes, of general questions.

The score of a set is the mean over the rows that have the value; a tune of a few notes has no
distance to others, and does not count there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.novelty import NEAR_COPY
from tunesmith.tasks.scores.score import Array, Metric, no_details

MC1, MC2, PROBE = "mc1", "mc2", "general-probe"
TUNE_VALID, TUNE_DISTANCE = "tune-valid", "tune-distance"
# 1 or 0 of every row, so that the mean is a share.
_SHARES = (MC1, PROBE, TUNE_VALID)

Details = Callable[[Sequence[Said], Sequence[Said]], Mapping[str, float]]


def row_metrics(rows: Sequence[Said]) -> list[Metric]:
    """Return a metric for each value that any of the rows has."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    return [_metric(name) for name in names]


def _metric(name: str) -> Metric:
    def statistics(answers: Sequence[Said], references: Sequence[Said]) -> Array:
        del references
        values = [row.values.get(name) for row in answers]
        pairs = [(0.0, 0.0) if value is None else (value, 1.0) for value in values]
        return np.array(pairs, dtype=np.float64)

    details: Mapping[str, Details] = {TUNE_DISTANCE: _distances}
    return Metric(
        name,
        statistics,
        _mean_of_those,
        is_share=name in _SHARES,
        details=details.get(name, no_details),
    )


def _mean_of_those(sums: Array, rows: int) -> Array:
    del rows
    return sums[..., 0] / np.maximum(sums[..., 1], 1)


def _distances(answers: Sequence[Said], references: Sequence[Said]) -> Mapping[str, float]:
    del references
    found = [row.values[TUNE_DISTANCE] for row in answers if TUNE_DISTANCE in row.values]
    near = sum(distance < NEAR_COPY for distance in found)
    return {
        "median": median(found),
        "near copies": near / len(found),
        "tunes compared": len(found) / len(answers),
    }
