"""Proves cheaply that no key of a JSON text was lost because it is written twice.

A fast decoder keeps the last of two equal keys in silence. In a JSON text every key is followed by
a colon, and what stands before that colon is the key's quote or white space:

    {"a": 1, "b" : 2}        counted: ":  and  space:  and the like

So the count of those pairs is never below the number of keys written, and that is never below the
number of keys kept. Where the first and the last are equal, all three are, and no key was lost.
Where they differ, a colon inside some text may be the reason: then the strings are cut out exactly.
"""

from __future__ import annotations

import re
from typing import Any, cast

_BYTE_COLONS = (b'":', b" :", b"\t:", b"\n:", b"\r:")
_TEXT_COLONS = ('":', " :", "\t:", "\n:", "\r:")
_BYTE_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TEXT_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# Beyond these a fast decoder may have made a float of an integer.
_EXACT_FLOAT = float(2**63)


def is_exact(raw: bytes, value: object) -> bool:
    """Whether what a decoder made of valid JSON bytes holds every key and integer of them."""
    num_keys = count_keys(value)
    if num_keys < 0:
        return False
    return num_keys == sum(map(raw.count, _BYTE_COLONS)) or (
        num_keys == _BYTE_STRING.sub(b"", raw).count(b":")
    )


def has_every_key(text: str, start: int, end: int, value: object) -> bool:
    """Whether a decoded value holds every key of the valid JSON text at a place."""
    num_keys = count_keys(value, any_float=True)
    if num_keys == sum(text.count(colon, start, end) for colon in _TEXT_COLONS):
        return True
    return num_keys == _TEXT_STRING.sub("", text[start:end]).count(":")


def count_keys(value: object, *, any_float: bool = False) -> int:
    """Count the keys of all objects in a value; -1 where a float may have been an integer."""
    num_keys = 0
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is dict:
            items = cast("dict[str, Any]", one)
            num_keys += len(items)
            waiting.extend(items.values())
        elif kind is list:
            waiting.extend(cast("list[Any]", one))
        elif kind is float and not any_float and not -_EXACT_FLOAT < one < _EXACT_FLOAT:
            return -1
    return num_keys
