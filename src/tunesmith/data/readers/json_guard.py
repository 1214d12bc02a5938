r"""Proves cheaply that no key of a JSON text was lost because it is written twice.

A fast decoder keeps the last of two equal keys in silence. In a JSON text each key is a string with
a colon after it, white space between them or not:

    {"a": 1, "b" : "so\": it goes"}     three places with a quote and a colon, two keys

So there are never fewer such places than keys written, and never fewer keys written than kept.
Where places and keys kept are as many, no key was lost. Where they differ, places whose quote is
escaped are left out: it closes no string. Where they still differ, a text may begin with a colon,
or a key is lost; then the strict decoder finds out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, AnyStr, cast

_BYTE_PLACE = re.compile(rb'"[ \t\r\n]*:')
_TEXT_PLACE = re.compile(r'"[ \t\r\n]*:')
# Beyond these a fast decoder may have made a float of an integer.
_EXACT_FLOAT = float(2**63)


def is_exact(raw: bytes, value: object) -> bool:
    """Whether what a decoder made of valid JSON bytes holds every key and integer of them."""
    num_keys = count_keys(value)
    if num_keys < 0:
        return False
    num_places = len(_BYTE_PLACE.findall(raw))
    if num_places == num_keys:
        return True
    if b'\\\\"' not in raw:  # else a backslash before a quote may itself be escaped
        return num_places - raw.count(b'\\":') == num_keys
    return _count_places(raw.split(b":"), b'"', b"\\", b" \t\r\n") == num_keys


def has_every_key(text: str, value: object) -> bool:
    """Whether a decoded value holds every key of the valid JSON text that it was made of."""
    num_keys = count_keys(value, any_float=True)
    num_places = len(_TEXT_PLACE.findall(text))
    if num_places == num_keys:
        return True
    if '\\\\"' not in text:
        return num_places - text.count('\\":') == num_keys
    return _count_places(text.split(":"), '"', "\\", " \t\r\n") == num_keys


def count_keys(value: object, *, any_float: bool = False) -> int:
    """Count the keys of all objects in a value; -1 where a float may have been an integer."""
    num_keys = 0
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            items = cast("dict[str, Any]", one)
            num_keys += len(items)
            one = items.values()
        elif type(one) is not list:
            one = (one,)
        for item in cast("Iterable[Any]", one):
            kind = type(item)
            if kind is dict or kind is list:
                waiting.append(item)
            elif kind is float and not any_float and not -_EXACT_FLOAT < item < _EXACT_FLOAT:
                return -1
    return num_keys


def _count_places(
    pieces: Sequence[AnyStr], quote: AnyStr, backslash: AnyStr, blanks: AnyStr
) -> int:
    """Count the pieces but the last that end in a quote that closes or opens a string."""
    num_places = 0
    for piece in pieces[:-1]:
        last = piece[-1:]
        if last == quote:
            if piece[-2:-1] != backslash:
                num_places += 1
                continue
        elif not last or last not in blanks:
            continue
        before = piece.rstrip(blanks)
        if before[-1:] == quote:
            bare = before[:-1]
            num_places += (len(bare) - len(bare.rstrip(backslash))) % 2 == 0
    return num_places
