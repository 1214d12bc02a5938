"""Scores of answers as texts: equal, equal as JSON, valid JSON, equal in their last number."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from tunesmith.tasks.scores.score import Array, Metric, column, mean, share_of
from tunesmith.tasks.scores.tool_calls import TOOL_CALL

NOT_JSON = object()
# A sign belongs to a number where no word or number ends before it, and a comma where it parts
# thousands: 10-5 ends in 5, and 12,34 in 34.
_NUMBER = re.compile(
    r"(?:(?<![\w.)])([-\u2212]))?[$\u20ac\u00a3]?(?<![\d.])"
    r"(\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
)


def _exact(answers: Sequence[str], references: Sequence[str]) -> Array:
    """1 where an answer is the reference, apart from white space around them."""
    pairs = zip(answers, references, strict=True)
    return column([float(answer.strip() == reference.strip()) for answer, reference in pairs])


def _json(answers: Sequence[str], references: Sequence[str]) -> Array:
    """1 where an answer is the same JSON value as the reference."""
    return column([float(_same_json(*pair)) for pair in _parsed(answers, references)])


def _json_details(answers: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
    """The share of answers that are JSON at all, and of each key the share that is right.

    They are `valid-json`, and `key KEY` over the rows whose reference has this key.
    """
    pairs = _parsed(answers, references)
    valid = share_of([answer is not NOT_JSON for answer, _ in pairs]).value
    return {"valid-json": valid, **_by_key(pairs)}


def _valid_json(answers: Sequence[str], references: Sequence[str]) -> Array:
    del references
    return column([float(parse_json(answer) is not NOT_JSON) for answer in answers])


def _same_number(answers: Sequence[str], references: Sequence[str]) -> Array:
    """1 where the last number of an answer is that of the reference."""
    pairs = zip(answers, references, strict=True)
    found = [(last_number(answer), last_number(reference)) for answer, reference in pairs]
    return column([float(said is not None and said == so) for said, so in found])


def last_number(text: str) -> Decimal | None:
    """The last number of a text, such as 1,000 or -$2.50; None where it has none."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    sign, digits = found[-1]
    number = Decimal(digits.replace(",", ""))
    return -number if sign else number


def _with_numbers(answers: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
    """Which rows can be right at all: without a number on both sides none is."""
    said, so = ([last_number(text) is not None for text in side] for side in (answers, references))
    found = {"answers with a number": share_of(said).value}
    return found if all(so) else {**found, "references with a number": share_of(so).value}


def _parsed(answers: Sequence[str], references: Sequence[str]) -> list[tuple[Any, Any]]:
    pairs = zip(answers, references, strict=True)
    return [(parse_json(answer), parse_json(reference)) for answer, reference in pairs]


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


TEXTS = {
    "exact-match": Metric("exact-match", _exact, mean, is_share=True),
    "json-match": Metric("json-match", _json, mean, is_share=True, details=_json_details),
    "valid-json": Metric("valid-json", _valid_json, mean, is_share=True),
    "numeric-match": Metric(
        "numeric-match", _same_number, mean, is_share=True, details=_with_numbers
    ),
    "tool-call": TOOL_CALL,
}
