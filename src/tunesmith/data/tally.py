"""What the check of many rows came to. Tallies of a file's parts are merged in the parts' order.

Everything is counted to the last row; only what is kept to be shown has a cap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.data.json_text import type_name
from tunesmith.data.row import Row, RowFault, Skipped

MAX_KEPT = 1000  # faults and dropped rows that are kept to be shown


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is no fault and should be known: how many rows it concerns, and the first."""

    what: str
    rows: int
    first: str


@dataclass(slots=True)
class _Seen:
    """How many rows, and the first of them."""

    rows: int
    number: int
    row_id: str


@dataclass
class Tally:
    """Counts of rows, faults, notes and types; picklable. `reasons` are rows, not faults."""

    rows_read: int = 0
    rows_refused: int = 0
    num_row_faults: int = 0
    row_faults: list[RowFault] = field(default_factory=list[RowFault])
    file_faults: list[RowFault] = field(default_factory=list[RowFault])
    dropped: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reasons: Counter[str] = field(default_factory=Counter[str])
    ignored: Counter[str] = field(default_factory=Counter[str])
    _notes: dict[str, _Seen] = field(default_factory=dict[str, _Seen])
    _types: dict[str, dict[str, _Seen]] = field(default_factory=dict[str, dict[str, _Seen]])

    @property
    def rows_usable(self) -> int:
        """How many rows can be used."""
        return self.rows_read - self.rows_refused

    @property
    def faults(self) -> tuple[RowFault, ...]:
        """The faults of the file as a whole, and the first ones of its rows."""
        return (*self.file_faults, *self.row_faults)

    @property
    def num_faults(self) -> int:
        """How many faults there are, whether they are kept or not."""
        return len(self.file_faults) + self.num_row_faults

    def refuse(self, faults: Sequence[RowFault]) -> None:
        """Count the faults of one row that was read, or of the file as a whole."""
        of_row = [fault for fault in faults if fault.is_of_row]
        self._add_file_faults([fault for fault in faults if not fault.is_of_row])
        self.num_row_faults += len(of_row)
        self.row_faults += of_row[: max(0, MAX_KEPT - len(self.row_faults))]
        if of_row:
            reasons = list(dict.fromkeys(fault.reason for fault in of_row))
            self.leave_out(of_row[0].row_id, reasons)

    def leave_out(self, row_id: str, reasons: Sequence[str]) -> None:
        """Count a row that was read and cannot be used, each of its reasons once."""
        self.rows_refused += 1
        self.reasons.update(reasons)
        if len(self.dropped) < MAX_KEPT:
            self.dropped.append((row_id, "; ".join(reasons)))

    def note(self, what: str, row: Row) -> None:
        """Count a row that something should be known of."""
        _count(self._notes, what, row)

    def pass_over(self, skipped: Iterable[Skipped]) -> None:
        """Note what a reader passed over because it is no row."""
        for one in skipped:
            where = f"{Path(one.file).name}:{one.first_line}"
            later = {f"{one.what}, passed over": _Seen(one.count, 0, where)}
            _merge(self._notes, later)

    def note_type(self, column: str, value: object, row: Row) -> None:
        """Count the type that a column has in a row."""
        _count(self._types.setdefault(column, {}), type_name(value), row)

    def _add_file_faults(self, faults: Sequence[RowFault]) -> None:
        # Each part of a file says what is wrong with the whole of it.
        self.file_faults += [fault for fault in faults if fault not in self.file_faults]

    def merge(self, other: Tally) -> None:
        """Add what the check of the rows that follow came to."""
        self.rows_read += other.rows_read
        self.rows_refused += other.rows_refused
        self.num_row_faults += other.num_row_faults
        self.row_faults += other.row_faults[: max(0, MAX_KEPT - len(self.row_faults))]
        self._add_file_faults(other.file_faults)
        self.dropped += other.dropped[: max(0, MAX_KEPT - len(self.dropped))]
        self.reasons.update(other.reasons)
        self.ignored.update(other.ignored)
        _merge(self._notes, other._notes)
        for column, types in other._types.items():
            _merge(self._types.setdefault(column, {}), types)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Everything that is no fault and should be known."""
        found = [Note(what, seen.rows, seen.row_id) for what, seen in self._notes.items()]
        mixed = [
            _describe_mix(column, types) for column, types in self._types.items() if len(types) > 1
        ]
        return (*found, *mixed)


def _count(seen: dict[str, _Seen], key: str, row: Row) -> None:
    known = seen.get(key)
    if known is None:
        seen[key] = _Seen(1, row.number, row.row_id)
    else:
        known.rows += 1


def _merge(seen: dict[str, _Seen], later: dict[str, _Seen]) -> None:
    for key, one in later.items():
        known = seen.get(key)
        if known is None:
            seen[key] = _Seen(one.rows, one.number, one.row_id)
        else:
            known.rows += one.rows


def _describe_mix(column: str, types: dict[str, _Seen]) -> Note:
    (usual, _), *others = types.items()
    counts = ", ".join(
        f"{kind} in {seen.rows:,} row{'s' * (seen.rows > 1)}" for kind, seen in types.items()
    )
    first = others[0][1]
    rule = ', and 1 and "1" are one class' if {usual, others[0][0]} == {"string", "integer"} else ""
    return Note(
        f"{column}: {counts}, first difference at row {first.number:,}{rule}",
        sum(seen.rows for _, seen in others),
        first.row_id,
    )
