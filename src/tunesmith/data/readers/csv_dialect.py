"""How the fields of a table are kept apart, found from its first lines."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_IDENTIFIER = re.compile(r"[\w][\w .()/#-]{0,40}")
_RECORDS_TO_BE_SURE = 3


@dataclass(frozen=True, slots=True)
class Dialect:
    """The delimiter, and whether blanks between it and a quote are passed over."""

    delimiter: str
    skips_blanks: bool = False

    @property
    def name(self) -> str:
        """The delimiter in words."""
        return _NAMES[self.delimiter]

    def parse(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Yield the fields of each record; what is no record raises csv.Error."""
        csv.field_size_limit(sys.maxsize)  # texts of any length; the module's limit is global
        return csv.reader(
            lines, delimiter=self.delimiter, skipinitialspace=self.skips_blanks, strict=True
        )


def find_dialect(lines: Sequence[str]) -> Dialect:
    """Return the delimiter that cuts the header into most fields and the rows into as many."""
    lines = [line for line in lines if line.strip()]
    delimiter = max(_NAMES, key=lambda one: _fit(lines, one))
    blanks = re.compile(f'{re.escape(delimiter)} +"')
    return Dialect(delimiter, skips_blanks=any(blanks.search(line) for line in lines))


def looks_like_table(lines: Sequence[str]) -> bool:
    """Whether lines of an unknown kind are a table: names on top, and rows of as many fields."""
    lines = [line for line in lines if line.strip()]
    if len(lines) < _RECORDS_TO_BE_SURE:
        return False
    dialect = find_dialect(lines)
    records = _parse(lines, dialect.delimiter)
    counts = {len(record) for record in records}
    return (
        len(records) >= _RECORDS_TO_BE_SURE
        and len(counts) == 1
        and counts.pop() > 1
        and all(_IDENTIFIER.fullmatch(name.strip()) for name in records[0])
    )


def _fit(lines: Sequence[str], delimiter: str) -> tuple[bool, float, int]:
    """Rank a delimiter: it cuts the header at all, the share of rows that fit, the columns."""
    records = _parse(lines, delimiter)
    columns = len(records[0]) if records else 0
    fitting = sum(len(record) == columns for record in records)
    return columns > 1, fitting / max(1, len(records)), columns


def _parse(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Return the records up to the first that is none; the last may have been cut."""
    records: list[list[str]] = []
    with suppress(csv.Error):
        for record in Dialect(delimiter).parse(line + "\n" for line in lines):
            records.append(record)  # those before an error are kept
    return records
