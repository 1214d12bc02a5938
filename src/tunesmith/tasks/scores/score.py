"""A score with its 95% interval, and the difference of two scores on the same rows.

A metric is a function of sums over rows: the hits, the counts of each class, the n-grams that are
right. So all have one bootstrap (Efron and Tibshirani, 1993): rows are drawn with replacement, and
the metric is computed from the sums over what was drawn. For a difference both sides draw the same
rows (Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004): what is
hard for both cancels out. A share of rows has Wilson's interval, which holds for few rows, too.

Shapes: R rows, S sums, N draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
DRAWS = 1000
# Two-sided 95% of the normal distribution.
Z_95 = 1.959963984540054
# Draws are made a few at a time: so many of their places are 8 MB.
_PLACES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Score:
    """A value in [0, 1] over `rows` rows; mcc is in [-1, 1].

    It has no interval where rows do not count one each, or there is one row only.
    `signature` says with which library and settings it was computed.
    """

    value: float
    rows: int
    low: float | None = None
    high: float | None = None
    details: Mapping[str, float] = field(default_factory=dict[str, float])
    signature: str = ""


@dataclass(frozen=True)
class Difference:
    """After minus before on the same rows, with its 95% interval; one row alone has none."""

    value: float
    low: float | None
    high: float | None
    rows: int


def no_details(answers: Sequence[Any], references: Sequence[Any]) -> Mapping[str, float]:
    """Tell nothing more."""
    del answers, references
    return {}


@dataclass(frozen=True)
class Metric:
    """A score of answers against references.

    `statistics` gives each row's part of the sums, [R, S], and `value` the score of sums [..., S]
    over a number of rows.
    """

    name: str
    statistics: Callable[[Sequence[Any], Sequence[Any]], Array]
    value: Callable[[Array, int], Array]
    is_share: bool = False
    details: Callable[[Sequence[Any], Sequence[Any]], Mapping[str, float]] = no_details
    signature: Callable[[], str] = lambda: ""


def mean(sums: Array, rows: int) -> Array:
    """The mean over rows of the one number that each has."""
    return sums[..., 0] / rows


def column(values: Sequence[float]) -> Array:
    """One number a row, as statistics."""
    return np.array(values, dtype=np.float64)[:, None]


def score(
    metric: Metric,
    answers: Sequence[Any],
    references: Sequence[Any],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Score:
    """Score answers; of no rows the score is 0 without an interval."""
    rows = len(answers)
    if not rows:
        return Score(0.0, 0)
    each = metric.statistics(answers, references)
    value = float(metric.value(each.sum(0), rows))
    if metric.is_share:
        low, high = wilson_interval(round(value * rows), rows)
    else:
        drawn = [metric.value(sums, rows) for (sums,) in _drawn([each], draws, seed)]
        low, high = _interval(drawn, value, rows)
    return Score(
        value, rows, low, high, metric.details(answers, references), signature=metric.signature()
    )


def difference(
    metric: Metric,
    before: Sequence[Any],
    after: Sequence[Any],
    references: Sequence[Any],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """How much better the later answers to the same rows are."""
    rows = len(references)
    assert len(before) == len(after) == rows > 0, "both sides answer the same rows"
    sides = [metric.statistics(answers, references) for answers in (before, after)]
    first, second = (metric.value(each.sum(0), rows) for each in sides)
    value = float(second - first)
    drawn = [
        metric.value(later, rows) - metric.value(earlier, rows)
        for earlier, later in _drawn(sides, draws, seed)
    ]
    low, high = _interval(drawn, value, rows)
    return Difference(value, low, high, rows)


def _drawn(sides: Sequence[Array], draws: int, seed: int) -> Iterator[list[Array]]:
    """Yield the sums [N, S] of some draws at a time, the same rows of each side."""
    generator = np.random.default_rng(seed)
    rows = len(sides[0])
    at_once = max(1, _PLACES_AT_ONCE // rows)
    for first in range(0, draws, at_once):
        count = min(at_once, draws - first)
        places = generator.integers(rows, size=(count, rows)) + rows * np.arange(count)[:, None]
        times = np.bincount(places.ravel(), minlength=count * rows).reshape(count, rows)
        yield [times.astype(np.float64) @ each for each in sides]


def _interval(
    drawn: Sequence[Array], value: float, rows: int
) -> tuple[float, float] | tuple[None, None]:
    """The percentiles, stretched to the value where drawing is biased and leaves it outside."""
    if rows == 1:  # every draw is that row, which says nothing of others
        return None, None
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return min(float(low), value), max(float(high), value)


def share_of(hits: Sequence[bool]) -> Score:
    """The share of rows that are right, with its Wilson interval."""
    rows = len(hits)
    if not rows:
        return Score(0.0, 0)
    low, high = wilson_interval(sum(hits), rows)
    return Score(sum(hits) / rows, rows, low, high)


def wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """The 95% interval of a share, which is sound for few rows and near 0 and 1, too."""
    share, squared = hits / rows, Z_95**2
    center = share + squared / (2 * rows)
    spread = Z_95 * math.sqrt((share * (1 - share) + squared / (4 * rows)) / rows)
    scale = 1 + squared / rows
    # Rounding must not leave the value itself outside.
    low, high = (center - spread) / scale, (center + spread) / scale
    return max(0.0, min(low, share)), min(1.0, max(high, share))
