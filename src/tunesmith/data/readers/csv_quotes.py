"""Finds the quote that a broken record's trouble comes from, by walking over its fields."""

from __future__ import annotations

from tunesmith.data.readers.csv_dialect import Dialect


def find_open_quote(text: str, dialect: Dialect, *, over_lines: bool = False) -> int:
    """Return where the quoted field begins that never ends, or goes on after its quote.

    `over_lines` asks for the first quoted field that holds a line end instead. -1 if there is none.
    """
    at = 0
    while at < len(text):
        while dialect.skips_blanks and text[at : at + 1] == " ":
            at += 1
        if text[at : at + 1] != '"':
            delimiter = text.find(dialect.delimiter, at)
            if delimiter < 0:
                return -1
            at = delimiter + 1
            continue
        end = _end_of_quoted(text, at + 1)
        is_broken = end < 0 or text[end + 1 : end + 2] not in ("", "\n", dialect.delimiter)
        if is_broken or (over_lines and "\n" in text[at:end]):
            return at
        at = end + 2
    return -1


def _end_of_quoted(text: str, at: int) -> int:
    while (end := text.find('"', at)) >= 0 and text[end + 1 : end + 2] == '"':
        at = end + 2
    return end
