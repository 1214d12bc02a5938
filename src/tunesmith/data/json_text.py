"""JSON as strictly as it was meant, with errors that name the likely cause.

Python's decoder lets three things through that lose or spoil data: a key that is written twice (the
first value vanishes), NaN, and Infinity. Here they are oddities, found in the same pass.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, cast

_SPACE = re.compile(r"[ \t\r\n]*")
_PYTHON_WORD = re.compile(r"(True|False|None)\b")


@dataclass(frozen=True, slots=True)
class Oddity:
    """A value that the decoder would have taken, and that must not be taken."""

    field: str
    found: str
    expected: str
    fix: str
    reason: str


class NotJsonError(Exception):
    """The text is not JSON: where in it, from 1, the likely cause, and what to do."""

    def __init__(self, line: int, column: int, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.line = line
        self.column = column
        self.cause = cause
        self.fix = fix


class JsonText:
    """A decoder that notes the oddities of the value it is at."""

    def __init__(self) -> None:
        self._twice: list[str] = []
        self._constants: list[str] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._to_dict, parse_constant=self._to_constant
        )

    def decode(
        self, text: str, position: int, *, alone: bool
    ) -> tuple[Any, int, tuple[Oddity, ...]]:
        """Decode the value at a position; `alone` where nothing may follow it."""
        self._twice.clear()
        self._constants.clear()
        try:
            value, end = self._decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _explain(text, error) from error
        except RecursionError as error:
            raise _at(text, position, "nested too deeply", "write the row flatter") from error
        except ValueError as error:  # a number of more digits than Python reads
            raise _at(text, position, str(error), "write a shorter number") from error
        if alone and self.skip_space(text, end) < len(text):
            raise _at(
                text, self.skip_space(text, end), "more than one value", "write one object a line"
            )
        return value, end, tuple(self._oddities(value))

    def skip_space(self, text: str, position: int) -> int:
        """Return the position of the next character that is no white space."""
        match = _SPACE.match(text, position)
        return match.end() if match else position

    def _to_dict(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            keys = [key for key, _ in pairs]
            self._twice += sorted({key for key in keys if keys.count(key) > 1})
        return values

    def _to_constant(self, name: str) -> float:
        self._constants.append(name)
        return float(name)

    def _oddities(self, value: object) -> list[Oddity]:
        twice = [written_twice(key) for key in self._twice]
        constants = [
            Oddity(
                field=_path_of_constant(value) or "",
                found=f"{name} is no JSON value",
                expected="a finite number, or null",
                fix="write null, or leave the field out",
                reason="NaN or Infinity",
            )
            for name in self._constants
        ]
        return twice + constants


def written_twice(key: str) -> Oddity:
    """Return what is odd about an object with a key that stands in it twice."""
    return Oddity(
        field=key,
        found=f'the key "{key}" is written twice in one object',
        expected="each key once",
        fix="remove one of the two",
        reason="duplicate key",
    )


def type_name(value: object, *, article: bool = False) -> str:
    """Return what JSON calls the value's type."""
    match value:
        case None:
            return "null"
        case bool():
            name = "boolean"
        case int():
            name = "integer"
        case float():
            name = "number"
        case str():
            name = "string"
        case list():
            name = "list"
        case _:
            name = "object"
    if not article:
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _explain(text: str, error: json.JSONDecodeError) -> NotJsonError:
    """Find the likely cause of a decoder's error from what stands around it."""
    at = error.pos
    before = text[:at].rstrip() if at < 200 else text[at - 200 : at].rstrip()
    here = text[at : at + 1]
    after_comma = text[at + 1 :].lstrip()[:1] if here == "," else ""
    if (here in ("}", "]") and before.endswith(",")) or after_comma in ("}", "]"):
        comma = at if here == "," else len(text[:at].rstrip()) - 1
        return _at(text, comma, "trailing comma", "remove the comma before the bracket")
    if here in ("\0", "") and "control character" in error.msg:
        return _at(text, at, "a NUL byte", "remove it: the file may be damaged or UTF-16")
    if "control character" in error.msg:
        return _at(
            text, at, "a raw control character inside a string",
            r"write it escaped: \n for a line break, \t for a tab",
        )  # fmt: skip
    if "delimiter" in error.msg and before.endswith('"') and here:
        quote = len(text[:at].rstrip()) - 1
        return _at(
            text, quote, "an unescaped quote, or a comma or colon is missing after it",
            r"write \" for a quote inside a text",
        )  # fmt: skip
    return _explain_rest(text, error, here)


def _explain_rest(text: str, error: json.JSONDecodeError, here: str) -> NotJsonError:
    at = error.pos
    if here == "'":
        return _at(text, at, "a single quote", "JSON puts texts between double quotes")
    if "Unterminated string" in error.msg:
        return _at(
            text, at, "a string that is not closed on this line",
            r"close it with a quote; write \n for a line break inside a text",
        )  # fmt: skip
    if "escape" in error.msg:
        return _at(
            text, at, "a backslash that begins no JSON escape", r"write \\ for a single backslash"
        )
    if _PYTHON_WORD.match(text, at):
        return _at(text, at, "a word of Python", "JSON writes true, false and null")
    if here == "\0":
        return _at(text, at, "a NUL byte", "remove it: the file may be damaged or UTF-16")
    if not here:
        return _at(
            text, at, "the text ends before its value does", "write the whole row on this line"
        )
    cause = error.msg[:1].lower() + error.msg[1:]
    return _at(text, at, cause, "mend the row: JSON is an object between { and }")


def _at(text: str, position: int, cause: str, fix: str) -> NotJsonError:
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    return NotJsonError(line, column, cause, fix)


def _path_of_constant(value: object, path: str = "") -> str | None:
    """Return the path of the first number that is not finite."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        items = [(f"{path}.{key}" if path else key, item) for key, item in named.items()]
    elif isinstance(value, list):
        listed = cast("list[Any]", value)
        items = [(f"{path}[{index}]", item) for index, item in enumerate(listed)]
    for item_path, item in items:
        found = _path_of_constant(item, item_path)
        if found is not None:
            return found
    return None
