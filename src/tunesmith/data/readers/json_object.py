"""The fields of a JSON object that holds no list of rows: columns, or one row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tunesmith.data.json_text import Oddity, written_twice
from tunesmith.data.readers.json_row import odd
from tunesmith.data.readers.json_stream import Value
from tunesmith.data.readers.lines import explain_bad_bytes
from tunesmith.data.readers.suffix import suffix_of
from tunesmith.data.row import Row, RowFault, place_at

# Lists of objects that belong to a single row.
_LISTS_OF_A_ROW = frozenset(
    (
        "messages",
        "conversations",
        "conversation",
        "prompt",
        "completion",
        "chosen",
        "rejected",
        "tools",
        "functions",
        "entities",
        "input",
        "preferred_output",
        "non_preferred_output",
        "chosen_messages",
        "rejected_messages",
    )
)
_ONE_ROW_A_LINE = {".jsonl", ".ndjson"}


def is_list_of_a_row(key: str) -> bool:
    """Whether a list under this key is part of a row, and no list of rows."""
    return key in _LISTS_OF_A_ROW


def is_one_row_a_line(path: Path) -> bool:
    """Whether the file's name promises one object a line."""
    return suffix_of(path) in _ONE_ROW_A_LINE


class KeptFields:
    """Takes the fields of an object as they come, with the first thing wrong among them."""

    def __init__(self, shown: str, line: int) -> None:
        self.line = line
        self._shown = shown
        self._fields: dict[str, Any] = {}
        self._fault: RowFault | None = None

    def add(self, key: str, value: Value) -> None:
        """Keep a field."""
        if key in self._fields:
            self._refuse(written_twice(key))
        self._fields[key] = value.value
        self._check(value)

    def add_list(self, key: str, values: Iterator[Value]) -> None:
        """Keep a list whose values come one by one."""
        listed: list[Any] = []
        for value in values:
            listed.append(value.value)
            self._check(value)
        self.add(key, Value(listed, self.line))

    def rows(self) -> Iterator[Row | RowFault]:
        """Yield the rows that columns of lists make, or the object itself as a row."""
        lengths = {key: len(cast("list[Any]", kept)) for key, kept in self._columns().items()}
        if self._fault is not None:
            yield self._fault
        elif self._fields and all(kept == [] for kept in self._fields.values()):
            yield self._empty()
        elif not lengths:
            yield Row(self._shown, self.line, self._fields, 1)
        elif len(set(lengths.values())) > 1:
            yield self._uneven(lengths)
        else:
            columns = self._fields.values()
            for number, cells in enumerate(zip(*columns, strict=True), start=1):
                values = dict(zip(self._fields, cells, strict=True))
                yield Row(self._shown, self.line, values, number, in_array=True)

    def _columns(self) -> dict[str, Any]:
        """Return the fields if they are columns: lists, and not the parts of one conversation."""
        for key, kept in self._fields.items():
            if not isinstance(kept, list) or not kept:
                return {}
            if is_list_of_a_row(key) and isinstance(kept[0], dict):
                return {}
        return self._fields

    def _check(self, value: Value) -> None:
        if value.bad_byte is not None and self._fault is None:
            place = place_at(self._shown, self.line)
            self._fault = explain_bad_bytes(place, value.bad_byte, value.offset)
        for oddity in value.oddities:
            self._refuse(oddity)

    def _refuse(self, oddity: Oddity) -> None:
        self._fault = self._fault or odd(place_at(self._shown, self.line), oddity)

    def _empty(self) -> RowFault:
        return RowFault(
            file=self._shown,
            found=f"the list {next(iter(self._fields))} is empty",
            expected="at least one row",
            fix="put the rows into it, as objects",
            reason="empty file",
        )

    def _uneven(self, lengths: dict[str, int]) -> RowFault:
        counts = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        return RowFault(
            file=self._shown,
            found=f"the object holds lists of different lengths ({counts})",
            expected="columns of one length, or one list of objects",
            fix="give each row a value in every column, or set data.rows_at",
            reason="no list of rows",
        )
