"""CSV and TSV: the first record names the columns, quoted fields may hold line ends.

    text,label                     line 1, the header
    "a, b                          line 2: one record over two lines
    and c",x
    "never closed,y                line 4: a fault here, and the lines below are read as usual

Where a quote is not closed it is not certain which rows were meant, so that fault spoils the file.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from tunesmith.data.data_file import DataFile
from tunesmith.data.readers.csv_dialect import Dialect, find_dialect
from tunesmith.data.readers.lines import Line, read_lines
from tunesmith.data.row import Row, RowFault, place_at

_LINES_TO_JUDGE_BY = 40
_LONGEST_RECORD = 64 << 20  # characters; a quote that stays open longer was not meant to


@dataclass(frozen=True, slots=True)
class _Record:
    """The lines of a record, its fields, or the parser's complaint."""

    lines: tuple[Line, ...]
    fields: list[str]
    complaint: str = ""


def read_table(file: DataFile) -> Iterator[Row | RowFault]:
    """Yield a row a record; ragged and broken records are faults in their places."""
    lines = read_lines(file.path, file.shown)
    head = list(islice(lines, _LINES_TO_JUDGE_BY))
    dialect = find_dialect([line.text for line in head])
    records = _Records(chain(head, lines), dialect)
    header = next((record for record in records if record.fields or record.complaint), None)
    if header is None:
        return
    columns = _read_header(file.shown, header)
    if isinstance(columns, RowFault):
        yield columns
        return
    yield from _read_rows(file.shown, records, columns, dialect)


def _read_rows(
    shown: str, records: _Records, columns: list[str], dialect: Dialect
) -> Iterator[Row | RowFault]:
    number = 0
    for record in records:
        if not record.fields and not record.complaint:
            continue  # a blank line
        number += 1
        line = record.lines[0].number
        fault = _find_fault(record, shown)
        if fault is not None:
            if record.complaint:
                records.resume_after_first_line(record)
            yield fault
        elif len(record.fields) == len(columns):
            yield Row(shown, line, dict(zip(columns, record.fields, strict=True)), number)
        else:
            is_swallowed = _has_swallowed_rows(record, len(columns), dialect)
            if is_swallowed:
                records.resume_after_first_line(record)
            yield _ragged(place_at(shown, line), record, columns, dialect, is_swallowed)


class _Records:
    """Records of fields from lines; it can go back to the second line of the last one."""

    def __init__(self, lines: Iterator[Line], dialect: Dialect) -> None:
        self._lines = lines
        self._dialect = dialect
        self._again: deque[Line] = deque()
        self._taken: list[Line] = []
        self._size = 0
        self._reader = self._new_reader()

    def __iter__(self) -> Iterator[_Record]:
        return self

    def __next__(self) -> _Record:
        self._taken, self._size = [], 0
        try:
            fields = next(self._reader)
        except csv.Error as error:
            self._reader = self._new_reader()
            return _Record(tuple(self._taken), [], str(error))
        return _Record(tuple(self._taken), fields)

    def resume_after_first_line(self, record: _Record) -> None:
        """Read the lines of a record again, as if it had ended with its first."""
        self._again.extendleft(reversed(record.lines[1:]))
        self._reader = self._new_reader()

    def _new_reader(self) -> Iterator[list[str]]:
        return self._dialect.parse(self._feed())

    def _feed(self) -> Iterator[str]:
        while True:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                return
            self._taken.append(line)
            self._size += len(line.text)
            if self._size > _LONGEST_RECORD and len(self._taken) > 1:
                raise csv.Error("unexpected end of data")
            yield line.text + "\n"


def _read_header(shown: str, record: _Record) -> list[str] | RowFault:
    fault = _find_fault(record, shown)
    if fault is not None:
        return replace(fault, spoils_file=True)
    names = [name.strip() for name in record.fields]
    names = [name or f"column {at}" for at, name in enumerate(names, start=1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is None:
        return names
    place = replace(place_at(shown, record.lines[0].number), spoils_file=True)
    return place.saying(
        found=f'the header names the column "{twice}" twice',
        expected="each column once",
        fix="rename one of the two, or take it out",
        reason="duplicate column",
    )


def _find_fault(record: _Record, shown: str) -> RowFault | None:
    """Return what is wrong with a record whatever the header says."""
    fault = next((line.fault for line in record.lines if line.fault), None)
    if not record.complaint:
        return fault
    place = place_at(shown, record.lines[0].number)
    return replace(fault or _complain(record, place), spoils_file=True)


def _complain(record: _Record, place: RowFault) -> RowFault:
    opened_at = _line_of_open_quote(record)
    if record.complaint.startswith("unexpected end"):
        return replace(place, line=opened_at).saying(
            found=f"the quote opened on line {opened_at} is not closed",
            expected="a closing quote before the next field",
            fix='close it, and write "" for a quote inside a quoted text',
            reason="unclosed quote",
        )
    if "expected after" in record.complaint:
        return replace(place, line=opened_at).saying(
            found=f"the quoted text opened on line {opened_at} goes on after a quote "
            f"on line {record.lines[-1].number}",
            expected="the delimiter or the line's end after a closing quote",
            fix='write "" for a quote inside a quoted text',
            reason="unescaped quote",
        )
    return place.saying(
        found=f"line {place.line} cannot be read as a record ({record.complaint})",
        expected="fields between delimiters",
        fix="put a text with line ends between double quotes",
        reason="not CSV",
    )


def _line_of_open_quote(record: _Record) -> int:
    """Return the line on which the last field began, by counting quotes: each text has two."""
    is_open, opened_at = False, record.lines[0].number
    for line in record.lines:
        for _ in range(line.text.count('"')):
            is_open = not is_open
            opened_at = line.number if is_open else opened_at
    return opened_at


def _has_swallowed_rows(record: _Record, num_columns: int, dialect: Dialect) -> bool:
    """Whether a line below the record's first makes a good row alone: a quote was left open."""
    for line in record.lines[1:]:
        try:
            (fields,) = dialect.parse([line.text])
        except (csv.Error, ValueError):
            continue
        if len(fields) == num_columns:
            return True
    return False


def _ragged(
    place: RowFault, record: _Record, columns: list[str], dialect: Dialect, is_swallowed: bool
) -> RowFault:
    fault = place.saying(
        found=f"line {place.line} has {_count(len(record.fields))}",
        expected=f"{len(columns)} as in the header: {', '.join(columns)}",
        fix=f"put a text that contains {dialect.name} between double quotes",
        reason="ragged row",
    )
    if not is_swallowed:
        return fault
    fix = f"close the quote that is opened on line {_line_of_open_quote(record)}"
    return replace(fault, fix=fix, spoils_file=True)


def _count(number: int) -> str:
    return "1 field" if number == 1 else f"{number} fields"
