"""From the rows of a file to samples: every fault of every row, before any model is loaded.

Rows are checked one by one, so that a file of any size can be. Printing is capped where an error
becomes text; counting never is. Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from tunesmith.core.errors import MAX_FAULTS_IN_MESSAGE, DataError, Fault
from tunesmith.data.conversation import Sample
from tunesmith.data.formats import FormatName, TaskName
from tunesmith.data.judgement import ROWS_TO_JUDGE_BY, Judgement, judge
from tunesmith.data.row_checker import RowChecker
from tunesmith.data.rows import DataFile, FileOptions, Row, RowFault, Skipped, read_chunks
from tunesmith.data.source import look_for
from tunesmith.data.tally import Note, Tally
from tunesmith.recipe.data import DataPart

__all__ = [
    "ROWS_TO_JUDGE_BY",
    "CheckedData",
    "Judgement",
    "Note",
    "RowChecker",
    "Tally",
    "check_file",
    "check_rows",
    "judge",
    "raise_faults",
    "raise_tally",
]

OnBadRow = Literal["error", "drop"]


@dataclass(frozen=True, slots=True)
class CheckedData:
    """What a file holds: the samples, the faults, and how many rows each kind of fault costs."""

    file: str
    format: FormatName | None
    samples: tuple[Sample, ...]
    tally: Tally
    task: TaskName = "chat"
    on_bad_row: OnBadRow = "error"

    @property
    def rows_read(self) -> int:
        """How many rows the file has, up to the limit."""
        return self.tally.rows_read

    @property
    def rows_with_faults(self) -> int:
        """How many rows cannot be used."""
        return self.tally.rows_refused

    @property
    def faults(self) -> tuple[RowFault, ...]:
        """The first faults; `tally.num_faults` counts them all."""
        return self.tally.faults

    @property
    def reasons(self) -> tuple[tuple[str, int], ...]:
        """The rows that each reason costs, most first."""
        return tuple(self.tally.reasons.most_common())

    @property
    def ignored_columns(self) -> tuple[tuple[str, int], ...]:
        """The columns that the form does not read, with the rows that have them."""
        return tuple(self.tally.ignored.most_common())

    @property
    def notes(self) -> tuple[Note, ...]:
        """Everything that is no fault and should be known."""
        return self.tally.notes


def check_file(path: Path | str, part: DataPart, task: TaskName | None) -> CheckedData:
    """Read and check a file, at most `part.limit` rows of it; without a task, for any."""
    skipped: list[Skipped] = []
    checked = check_rows(_rows_of(path, part, skipped), part, task, file=str(path))
    checked.tally.pass_over(skipped)
    return checked


def _rows_of(path: Path | str, part: DataPart, skipped: list[Skipped]) -> Iterator[Row | RowFault]:
    found = look_for(path)
    yield from (one for one in found if isinstance(one, RowFault))
    files = [one for one in found if isinstance(one, DataFile)]
    for chunk in read_chunks(files, FileOptions.of(part), part.limit):
        skipped += chunk.skipped
        yield from chunk.rows()


def check_rows(
    rows: Iterable[Row | RowFault], part: DataPart, task: TaskName | None, *, file: str
) -> CheckedData:
    """Check rows against the form asked for, or the one that most of the first rows have."""
    remaining = iter(rows)
    head = list(islice(remaining, ROWS_TO_JUDGE_BY))
    checker = RowChecker(judge(head, part, task, file=file), part)
    checked = (checker.check(row) for row in chain(head, remaining))
    samples = tuple(sample for sample in checked if sample is not None)
    judged = checker.judgement
    return CheckedData(file, judged.form, samples, checker.tally, judged.task, part.on_bad_row)


def raise_faults(checked: Sequence[CheckedData]) -> None:
    """Raise one DataError with the faults of all the files, or return where there is none."""
    raise_tallies([(data.file, data.tally) for data in checked], checked[0].on_bad_row)


def raise_tally(tally: Tally, *, file: str, on_bad_row: OnBadRow) -> None:
    """Raise a DataError unless the file can be used: see `raise_tallies`."""
    raise_tallies([(file, tally)], on_bad_row)


def raise_tallies(tallies: Sequence[tuple[str, Tally]], on_bad_row: OnBadRow) -> None:
    """Raise one DataError with the faults that stand in the way.

    Where bad rows are left out, those are: a fault of the file as a whole, and a file without a
    usable row.
    """
    faults: list[Fault] = []
    num_hidden = 0
    for file, tally in tallies:
        told = _to_faults(file, tally, on_bad_row)
        faults += told
        num_hidden += tally.num_faults - len(tally.faults) if told else 0
    if faults:
        raise DataError(faults, total=len(faults) + num_hidden)


def _to_faults(file: str, tally: Tally, on_bad_row: OnBadRow) -> list[Fault]:
    is_useless = bool(tally.rows_read) and not tally.rows_usable
    if on_bad_row == "drop" and not is_useless:
        return [_to_fault(fault) for fault in tally.file_faults]
    faults = [_to_fault(fault) for fault in tally.faults]
    is_table_needed = len(faults) > MAX_FAULTS_IN_MESSAGE or is_useless
    if not faults or not tally.rows_read or not is_table_needed:
        return faults
    table = "; ".join(f"{reason}: {count:,}" for reason, count in tally.reasons.most_common())
    summary = Fault(
        found=f"{tally.rows_usable:,} of {tally.rows_read:,} rows usable ({table})",
        where=file,
        fix="mend what is named below, or take those rows out",
    )
    return [summary, *faults]


def _to_fault(fault: RowFault) -> Fault:
    told = fault.to_fault()
    if not fault.corrected:
        return told
    return replace(told, fix=f"{told.fix}\n  corrected: {fault.corrected}")
