"""Calls of tools: does the model call the right function with the right arguments, or none?

A call is a JSON object with a `name` and `arguments` (or `parameters`) anywhere in the reply, as
most chat templates print it. Arguments are equal as JSON values; a text of JSON counts as what it
holds. All calls of a reply must be right, in any order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from tunesmith.tasks.scores.score import Array, Metric, column, mean, share_of

Call = tuple[str, str]
"""The name, and the arguments as JSON with its keys in order."""
_DECODER = json.JSONDecoder()


def calls_in(text: str) -> list[Call]:
    """Return the calls in a reply, sorted."""
    found: list[Call] = []
    place = text.find("{")
    while place >= 0:
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found += _calls_of(value)
        place = text.find("{", end)
    return sorted(found)


def _calls_of(value: object) -> list[Call]:
    if not isinstance(value, dict):
        return []
    given = cast("dict[str, Any]", value)
    name = given.get("name")
    arguments = given.get("arguments", given.get("parameters"))
    if not isinstance(name, str) or arguments is None:
        return []
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = json.loads(arguments)
    return [(name, json.dumps(arguments, sort_keys=True))]


def _same_calls(answers: Sequence[str], references: Sequence[str]) -> Array:
    pairs = zip(answers, references, strict=True)
    return column([float(calls_in(answer) == calls_in(reference)) for answer, reference in pairs])


def _details(answers: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
    """The rows that want a call: is one made, of the right function; and calls that none wants."""
    wanted = [calls_in(reference) for reference in references]
    said = [calls_in(answer) for answer in answers]
    pairs = [(one, other) for one, other in zip(said, wanted, strict=True) if other]
    unwanted = [bool(one) for one, other in zip(said, wanted, strict=True) if not other]
    found: dict[str, float] = {}
    if pairs:
        found["a call where one is wanted"] = share_of([bool(one) for one, _ in pairs]).value
        found["the right function"] = share_of(
            [[name for name, _ in one] == [name for name, _ in other] for one, other in pairs]
        ).value
        found["the right arguments, too"] = share_of([one == other for one, other in pairs]).value
    if unwanted:
        found["a call where none is wanted"] = share_of(unwanted).value
    return found


TOOL_CALL = Metric("tool-call", _same_calls, mean, is_share=True, details=_details)
