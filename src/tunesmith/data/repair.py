"""What a faulty row would be without its fault, where that is certain. It is shown, never used.

Certain are: a comma before a closing bracket, a row in Python's writing, a raw control character in
a text, JSON that was encoded twice, NaN and Infinity (null), a role with one near name, a number
where a text belongs. Nothing that would have to be made up is.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith.data.messages import nearest_role

MAX_SHOWN = 200
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|(?:^|\.)([^.\[\]]+)")


def repair_text(raw: str) -> str | None:
    """Return a row's text as the JSON object that it was meant to be, or None."""
    if "\0" in raw:
        return None  # damage, not a slip of the pen
    readers: tuple[Callable[[str], object], ...] = (_read_loosely, _read_python)
    for read in readers:
        try:
            value = read(raw.strip())
            if isinstance(value, str):
                value = _read_loosely(value)
            if isinstance(value, dict):
                return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def repair_values(values: Mapping[str, Any], field: str, reason: str, expected: str) -> str | None:
    """Return a row with the value at a fault's field mended, as JSON text, or None."""
    mend = _mend_role if reason == "unknown role" else None
    if reason == "wrong type" and expected == "string":
        mend = _mend_number
    steps = [int(index) if index else name for index, name in _STEP.findall(field)]
    if mend is None or not steps:
        return None
    try:
        row = json.loads(json.dumps(dict(values), ensure_ascii=False, allow_nan=False))
        inner: Any = row
        for step in steps[:-1]:
            inner = inner[step]
        inner[steps[-1]] = mend(inner[steps[-1]])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return json.dumps(row, ensure_ascii=False)


def excerpt(before: str, after: str) -> str:
    """Return the part of a corrected text around the first change, `MAX_SHOWN` characters."""
    if len(after) <= MAX_SHOWN:
        return after
    first = _first_change(before, after)
    start = max(0, min(first - MAX_SHOWN // 2, len(after) - MAX_SHOWN + 6))
    end = start + MAX_SHOWN - 6
    return ("..." if start else "") + after[start:end] + ("..." if end < len(after) else "")


def _first_change(before: str, after: str) -> int:
    """Return where the second text first differs, white space left aside."""
    given = (char for char in before if not char.isspace())
    for place, char in enumerate(after):
        if not char.isspace() and next(given, None) != char:
            return place
    return len(after)


def _read_loosely(text: str) -> object:
    mended = _STRING_OR_COMMA.sub(lambda match: "" if match.group() == "," else match.group(), text)
    return json.loads(
        mended, strict=False, parse_constant=lambda _: None, object_pairs_hook=_each_key_once
    )


def _read_python(text: str) -> object:
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _each_key_once([(ast.dump(key), None) for key in node.keys if key])
    return ast.literal_eval(tree)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("which of two values is meant is not certain")
    return values


def _mend_role(value: object) -> str:
    near = nearest_role(value) if isinstance(value, str) else None
    if near is None:
        raise ValueError("no near role")
    return near


def _mend_number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("only a number has one certain text")
    return json.dumps(value)
