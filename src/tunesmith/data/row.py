"""A row of a file, what is wrong with one, and what a reader passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tunesmith.core.errors import Fault


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `number` counts the rows of a file from 1, faulty ones too.

    `line` is where it begins, 0 where a kind of file has no lines. `in_array` where the number is
    part of its name: several rows may share a line, or there are no lines.
    """

    file: str
    line: int
    values: dict[str, Any] = field(hash=False)
    number: int = 0
    in_array: bool = False

    @property
    def row_id(self) -> str:
        """The row's short name: `train.jsonl:12`, or `train.json:12#3` for an array's third."""
        return name_row(self.file, self.line, self.number if self.in_array else None)


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong with one row, or with the whole file where `line` is 0 and `row` is None.

    It reads as a sentence: `{found}, expected {expected}`. `reason` is the short name under which
    the faults of a file are counted. `spoils_file` where it is not certain any more which rows
    follow: to leave out this row alone would lose others in silence. `raw` is the row's text where
    it is no row yet, `corrected` what the row would be without the fault, where that is certain.
    """

    file: str
    line: int = 0
    field: str = ""
    found: str = ""
    expected: str = ""
    fix: str = ""
    reason: str = ""
    row_id: str = ""
    row: int | None = None
    spoils_file: bool = False
    raw: str = ""
    corrected: str = ""

    @property
    def is_of_row(self) -> bool:
        """Whether one row is at fault; else the file cannot be used, whatever its rows hold."""
        return (self.line > 0 or self.row is not None) and not self.spoils_file

    @property
    def where(self) -> str:
        """The place: file and line, the row of an array, the field."""
        parts = [f"{self.file}:{self.line}" if self.line else self.file]
        parts += [f"row {self.row}"] if self.row else []
        parts += [f"field {self.field}"] if self.field else []
        return ", ".join(parts)

    def saying(
        self, *, found: str, expected: str, fix: str, reason: str, field: str | None = None
    ) -> RowFault:
        """Return the same place with something else to say about it."""
        at = self.field if field is None else field
        return replace(self, found=found, expected=expected, fix=fix, reason=reason, field=at)

    def printable(self) -> RowFault:
        """Return the same fault in texts that any file can hold, whatever the row quoted had."""
        return replace(
            self,
            field=printable(self.field),
            found=printable(self.found),
            expected=printable(self.expected),
            fix=printable(self.fix),
            corrected=printable(self.corrected),
        )

    def to_fault(self) -> Fault:
        """Return the fault in the three parts that every error of Tunesmith has."""
        return Fault(
            found=f"{self.found}, expected {self.expected}" if self.expected else self.found,
            where=self.where,
            fix=self.fix or f"write {self.expected}",
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a reader passed over because it is no row: `what` reads on after a number of them."""

    file: str
    what: str
    count: int
    first_line: int


class Chunk(Protocol):
    """Some rows of one file, small enough to be sent to a worker process."""

    @property
    def num_rows(self) -> int:
        """How many rows and faults `rows` yields."""
        ...

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was passed over before or between these rows."""
        ...

    def rows(self) -> Iterator[Row | RowFault]:
        """Decode and yield the rows, and the faults in their places."""
        ...


def printable(text: str) -> str:
    """Write halves of surrogate pairs as escapes: UTF-8 has no bytes for them."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def place_of(row: Row) -> RowFault:
    """Return an empty fault at a row, to be filled by `saying`."""
    return RowFault(
        file=row.file,
        line=row.line,
        row_id=row.row_id,
        row=row.number if row.in_array else None,
    )


def place_at(file: str, line: int, number: int | None = None) -> RowFault:
    """Return an empty fault at a line, or at the numbered row of an array."""
    return RowFault(file=file, line=line, row=number, row_id=name_row(file, line, number))


def name_row(file: str, line: int, number: int | None) -> str:
    """Return a row's short name, from its file's name, its line and the number if that counts."""
    at_line = f":{line}" if line else ""
    return f"{os.path.basename(file)}{at_line}" + ("" if number is None else f"#{number}")
