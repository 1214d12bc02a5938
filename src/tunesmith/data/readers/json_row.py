"""From a decoded JSON value to a row, or to the fault that says why it is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from tunesmith.data.json_text import NotJsonError, Oddity, type_name
from tunesmith.data.row import Row, RowFault

_LONGEST_RAW = 1 << 20  # characters; a correction of more than that helps nobody


def to_row(value: object, place: RowFault, number: int, raw: str) -> Row | RowFault:
    """Make a row of an object; any other value is a fault that holds its text."""
    if not isinstance(value, dict):
        return with_raw(_not_an_object(place, value), raw)
    values = cast("dict[str, Any]", value)
    return Row(place.file, place.line, values, number, place.row is not None)


def with_raw(fault: RowFault, raw: str) -> RowFault:
    """Return a fault that holds the row's text."""
    return replace(fault, raw=raw) if len(raw) <= _LONGEST_RAW else fault


def not_json(place: RowFault, error: NotJsonError) -> RowFault:
    """Say where the text at a place stops being JSON."""
    return place.saying(
        found=f"line {place.line} is not JSON: {error.cause} at column {error.column}",
        expected="one JSON object",
        fix=error.fix,
        reason="not JSON",
    )


def odd(place: RowFault, oddity: Oddity) -> RowFault:
    """Say which value of the row at a place must not be taken."""
    return place.saying(
        field=oddity.field, found=oddity.found, expected=oddity.expected, fix=oddity.fix,
        reason=oddity.reason,
    )  # fmt: skip


def _not_an_object(place: RowFault, value: object) -> RowFault:
    subject = f"row {place.row}" if place.row is not None else f"line {place.line}"
    encoded_twice = isinstance(value, str) and value.lstrip().startswith("{")
    return place.saying(
        found=f"{subject} is {type_name(value, article=True)}",
        expected="an object",
        fix=(
            "it is JSON that was encoded twice: decode it once"
            if encoded_twice
            else 'write a row as an object, such as {"messages": [...]}'
        ),
        reason="not an object",
    )
