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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from tunesmith.data.data_file import DataFile
from tunesmith.data.readers.csv_dialect import Dialect, find_dialect
from tunesmith.data.readers.csv_quotes import find_open_quote
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

    @property
    def is_blank(self) -> bool:
        """Whether it is an empty line."""
        return not self.fields and not self.complaint

    @property
    def has_fault(self) -> bool:
        """Whether something is wrong with it whatever the header says."""
        return bool(self.complaint) or any(line.fault for line in self.lines)


def read_table(file: DataFile) -> Iterator[Row | RowFault]:
    """Yield a row a record; ragged and broken records are faults in their places."""
    lines = read_lines(file.path, file.shown)
    head = list(islice(lines, _LINES_TO_JUDGE_BY))
    dialect = find_dialect([line.text for line in head])
    records = _Records(chain(head, lines), dialect)
    header = next((record for record in records if not record.is_blank), None)
    if header is None:
        return
    columns = _read_header(file.shown, header, dialect)
    if isinstance(columns, RowFault):
        yield columns
        return
    yield from _read_rows(file.shown, records, columns, dialect)


def _read_rows(
    shown: str, records: _Records, columns: list[str], dialect: Dialect
) -> Iterator[Row | RowFault]:
    number = 0
    for record in records:
        if record.is_blank:
            continue
        number += 1
        has_all = len(record.fields) == len(columns)
        if has_all and not record.has_fault:
            values = dict(zip(columns, record.fields, strict=True))
            yield Row(shown, record.lines[0].number, values, number)
            continue
        quote_line = _line_of_quote(record, dialect)
        swallowed = [line for line in record.lines if line.number > quote_line]
        if not has_all and any(_is_row_alone(line, len(columns), dialect) for line in swallowed):
            records.read_again(swallowed)
            yield replace(_explain(shown, record, quote_line, columns, dialect), spoils_file=True)
        else:
            yield _explain(shown, record, quote_line, columns, dialect)


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

    def read_again(self, lines: Sequence[Line]) -> None:
        """Read the last lines of the last record again, as if it had ended before them."""
        self._again.extendleft(reversed(lines))
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


def _read_header(shown: str, record: _Record, dialect: Dialect) -> list[str] | RowFault:
    if record.has_fault:
        quote_line = _line_of_quote(record, dialect)
        return replace(_explain(shown, record, quote_line, [], dialect), spoils_file=True)
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


def _line_of_quote(record: _Record, dialect: Dialect) -> int:
    """Return the line of the quote that a broken record's trouble comes from, else its last."""
    text = "\n".join(line.text for line in record.lines)
    at = find_open_quote(text, dialect, over_lines=not record.complaint)
    if at < 0:
        return record.lines[-1].number
    return record.lines[0].number + text.count("\n", 0, at)


def _is_row_alone(line: Line, num_columns: int, dialect: Dialect) -> bool:
    """Whether a line inside a record makes a good row alone: a quote above was left open."""
    try:
        (fields,) = dialect.parse([line.text])
    except (csv.Error, ValueError):
        return False
    return len(fields) == num_columns


def _explain(
    shown: str, record: _Record, quote_line: int, columns: list[str], dialect: Dialect
) -> RowFault:
    fault = next((line.fault for line in record.lines if line.fault), None)
    if fault is not None:
        return replace(fault, spoils_file=bool(record.complaint))
    place = place_at(shown, record.lines[0].number)
    if record.complaint:
        return replace(_complain(record, place, quote_line), spoils_file=True)
    fix = f"put a text that contains {dialect.name} between double quotes"
    if len(record.fields) < len(columns):
        fix = f"write {dialect.name} for each field that is missing, even where it is empty"
    if quote_line < record.lines[-1].number:
        fix = f"close the quote that is opened on line {quote_line}, or {fix}"
    return place.saying(
        found=f"line {place.line} has {_count(len(record.fields))}",
        expected=f"{len(columns)} as in the header: {', '.join(columns)}",
        fix=fix,
        reason="ragged row",
    )


def _complain(record: _Record, place: RowFault, quote_line: int) -> RowFault:
    if record.complaint.startswith("unexpected end"):
        return replace(place, line=quote_line).saying(
            found=f"the quote opened on line {quote_line} is not closed",
            expected="a closing quote before the next field",
            fix='close it, and write "" for a quote inside a quoted text',
            reason="unclosed quote",
        )
    if "expected after" in record.complaint:
        return replace(place, line=quote_line).saying(
            found=f"the quoted text opened on line {quote_line} goes on after a quote "
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


def _count(number: int) -> str:
    return "1 field" if number == 1 else f"{number} fields"
