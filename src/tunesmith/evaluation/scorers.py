"""Scores of answers against references. Pure functions of text.

A score is a share of rows with its 95% interval: 4 of 5 right and 400 of 500 right are both 0.8,
and only the second says much.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

# Two-sided 95% of the normal distribution.
Z_95 = 1.959963984540054
NOT_JSON = object()


@dataclass(frozen=True)
class Score:
    """A value in [0, 1] over `rows` rows; no interval where rows do not count one each."""

    value: float
    rows: int
    low: float | None = None
    high: float | None = None
    details: Mapping[str, float] = field(default_factory=dict[str, float])


def exact_match(answers: Sequence[str], references: Sequence[str]) -> Score:
    """The share of answers that are the reference, apart from white space around them."""
    pairs = zip(answers, references, strict=True)
    return share_of([answer.strip() == reference.strip() for answer, reference in pairs])


def json_match(answers: Sequence[str], references: Sequence[str]) -> Score:
    """The share of answers that are the same JSON value as the reference.

    The details hold the share of answers that are JSON at all, as `valid-json`, and for each key of
    the references, as `key KEY`, the share of the rows with this key that answer it right.
    """
    pairs = [
        (parse_json(answer), parse_json(reference))
        for answer, reference in zip(answers, references, strict=True)
    ]
    score = share_of([_same_json(answer, reference) for answer, reference in pairs])
    valid = share_of([answer is not NOT_JSON for answer, _ in pairs]).value
    details = {"valid-json": valid, **_by_key(pairs)}
    return Score(score.value, score.rows, score.low, score.high, details)


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


def parse_json(text: str) -> Any:
    """The value of a JSON text, or NOT_JSON."""
    try:
        return json.loads(text.strip(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _same_json(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1, and the order of keys says nothing."""
    if one is NOT_JSON or other is NOT_JSON:
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast(dict[str, Any], one), cast(dict[str, Any], other)
        return left.keys() == right.keys() and all(_same_json(left[k], right[k]) for k in left)
    if isinstance(one, list) and isinstance(other, list):
        items, others = cast(list[Any], one), cast(list[Any], other)
        return len(items) == len(others) and all(map(_same_json, items, others))
    return one == other


def _by_key(pairs: Sequence[tuple[Any, Any]]) -> dict[str, float]:
    hits: dict[str, list[bool]] = {}
    for answer, reference in pairs:
        if not isinstance(reference, dict):
            continue
        given = cast(dict[str, Any], answer) if isinstance(answer, dict) else {}
        for key, value in cast(dict[str, Any], reference).items():
            hits.setdefault(key, []).append(_same_json(given.get(key, NOT_JSON), value))
    return {f"key {key}": share_of(rows).value for key, rows in hits.items()}
