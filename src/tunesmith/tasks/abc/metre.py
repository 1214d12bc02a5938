"""The fields that count time: M: (metre) and L: (unit note length), 3.1.6 and 3.1.7."""

from __future__ import annotations

import re
from fractions import Fraction

_SUM = re.compile(r"\(?\s*(\d{1,3}(?:\s*\+\s*\d{1,3})*)\s*\)?\s*/\s*(\d{1,2})")
_NAMES = {"C": Fraction(1), "C|": Fraction(1)}


def read_metre(value: str) -> Fraction | None:
    """Return how long a bar is, in whole notes; None of a free metre (`none`, or empty).

    Raises:
        ValueError: it is no metre.
    """
    if value in {"", "none"}:
        return None
    if value in _NAMES:
        return _NAMES[value]
    match = _SUM.fullmatch(value)
    if match is None or int(match[2]) not in {1, 2, 4, 8, 16, 32, 64}:
        raise ValueError(f"{value!r} is no metre")
    beats = sum(int(number) for number in match[1].split("+"))
    if beats == 0:
        raise ValueError(f"{value!r} is no metre")
    return Fraction(beats, int(match[2]))


def is_compound(value: str) -> bool:
    """Whether a beat has three parts, on which the time of some tuplets depends (4.13)."""
    return value.partition("/")[0].strip() in {"6", "9", "12"}


def read_unit(value: str) -> Fraction:
    """Return the length of a note that is written without one.

    Raises:
        ValueError: it is no length of a note.
    """
    match = re.fullmatch(r"1(?:/(1|2|4|8|16|32|64|128|256|512))?", value)
    if match is None:
        raise ValueError(f"{value!r} is no length of a note")
    return Fraction(1, int(match[1] or 1))


def default_unit(metre: Fraction | None) -> Fraction:
    """Return the unit of a tune without L: a sixteenth in metres below 3/4, else an eighth."""
    return Fraction(1, 16) if metre is not None and metre < Fraction(3, 4) else Fraction(1, 8)
