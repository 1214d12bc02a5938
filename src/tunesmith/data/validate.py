"""From the rows of a file to samples: every fault of every row, before any model is loaded.

Printing is capped where an error becomes text; counting never is. Imports neither torch nor
transformers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path

from tunesmith.core.errors import MAX_FAULTS_IN_MESSAGE, DataError, Fault
from tunesmith.data.conversation import Sample, texts_of
from tunesmith.data.formats import (
    FORMATS,
    Columns,
    FormatName,
    TaskName,
    columns_of,
    find_format,
    to_sample,
    used_columns,
)
from tunesmith.data.rows import Row, RowFault, read_rows
from tunesmith.recipe.data import DataPart

_ROWS_TO_JUDGE_BY = 1000  # a file's form and columns are judged by its first rows


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is no fault and should be known: how many rows it concerns, and the first."""

    what: str
    rows: int
    first: str


@dataclass(frozen=True, slots=True)
class CheckedData:
    """What a file holds: the samples, every fault, and how many rows each kind of fault costs."""

    file: str
    format: FormatName | None
    rows_read: int
    samples: tuple[Sample, ...]
    faults: tuple[RowFault, ...]
    reasons: tuple[tuple[str, int], ...]
    ignored_columns: tuple[tuple[str, int], ...]
    notes: tuple[Note, ...]

    @property
    def rows_with_faults(self) -> int:
        """How many rows cannot be used."""
        return self.rows_read - len(self.samples)


def check_file(path: Path | str, part: DataPart, task: TaskName) -> CheckedData:
    """Read and check a file, at most `part.limit` rows of it."""
    return check_rows(read_rows(path, part.limit), part, task, file=str(path))


def check_rows(
    rows: Iterable[Row | RowFault], part: DataPart, task: TaskName, *, file: str
) -> CheckedData:
    """Check rows against the form asked for, or the one that most of the first rows have."""
    remaining = iter(rows)
    head = list(islice(remaining, _ROWS_TO_JUDGE_BY))
    columns: Columns = part.columns.model_dump(exclude_none=True) if part.columns else {}
    first_rows = [row for row in head if isinstance(row, Row)]
    common = _most_common_format(first_rows, columns)
    form = common if part.format == "auto" else part.format
    columns = columns_of(form, columns) if form else columns
    unsuitable = _find_unsuitable(first_rows, form, columns, task, file)
    checker = _Checker(form, columns, task, unsuitable)
    for row in chain(head, remaining):
        checker.check(row)
    return checker.result(file)


def raise_faults(checked: Sequence[CheckedData]) -> None:
    """Raise one DataError with every fault of the files, or return where there is none."""
    faults = [fault for data in checked for fault in _to_faults(data)]
    if faults:
        raise DataError(faults)


def _to_faults(data: CheckedData) -> list[Fault]:
    faults = [fault.to_fault() for fault in data.faults]
    is_table_needed = len(faults) > MAX_FAULTS_IN_MESSAGE or not data.samples
    if not faults or not data.rows_read or not is_table_needed:
        return faults
    table = "; ".join(f"{reason}: {count}" for reason, count in data.reasons)
    summary = Fault(
        found=f"{len(data.samples)} of {data.rows_read} rows usable ({table})",
        where=data.file,
        fix="mend what is named below, or take those rows out",
    )
    return [summary, *faults]


def _most_common_format(rows: Sequence[Row], columns: Columns) -> FormatName | None:
    found: Counter[FormatName | None] = Counter(
        find_format(row.values.keys(), columns) for row in rows
    )
    for form, _ in found.most_common():
        if form is not None:
            return form
    return None


def _find_unsuitable(
    rows: Sequence[Row], form: FormatName | None, columns: Columns, task: TaskName, file: str
) -> RowFault | None:
    """Return what makes the whole file unsuitable, whatever its single rows hold."""
    if not rows:
        return None
    names = sorted({name for row in rows for name in row.values})
    place = RowFault(file=file)
    for column, name in columns.items():
        if name not in names:
            return _no_column(place, name, names, f"data.columns.{column}")
    if form is None:
        return _no_known_form(place, rows)
    for column in FORMATS[form].needs:
        name = columns.get(column, column)
        if name not in names:
            return _no_column(place, name, names, "data.format")
    if task not in FORMATS[form].tasks:
        other = "completion" if task == "chat" else "chat"
        return place.saying(
            found=f"rows of form {form}",
            expected=f"a form for task {task}: {_forms_for(task)}",
            fix=f"set task: {other}, or write the rows in one of those forms",
            reason=f'wrong format "{form}" for {task} objective',
        )
    return None


def _forms_for(task: TaskName) -> str:
    return ", ".join(form.name for form in FORMATS.values() if task in form.tasks)


def _no_column(place: RowFault, name: str, names: list[str], key: str) -> RowFault:
    near = get_close_matches(name, names, n=1)
    return place.saying(
        found=f'the file has no column "{name}"',
        expected=f"one of its columns: {', '.join(names)}",
        fix=f'did you mean "{near[0]}"? Set {key}' if near else f"name an existing one in {key}",
        reason=f'no column "{name}"',
    )


def _no_known_form(place: RowFault, rows: Sequence[Row]) -> RowFault:
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    texts = [name for name, value in rows[0].values.items() if isinstance(value, str)]
    if {"chosen", "rejected"} <= set(names):
        found, fix = "preference rows (chosen, rejected)", "give rows with one answer each"
    else:
        found = f"no known form has the columns {', '.join(names) or '(none)'}"
        asked, answered = texts if len(texts) == 2 else ("<column>", "<column>")
        fix = f"set data.columns, such as {{prompt: {asked}, completion: {answered}}}"
    needs = "; ".join(" + ".join(form.needs) for form in FORMATS.values())
    return place.saying(
        found=found, expected=f"columns of one form: {needs}", fix=fix, reason="no known form"
    )


class _Checker:
    """Takes rows one by one and keeps the counts."""

    def __init__(
        self,
        form: FormatName | None,
        columns: Columns,
        task: TaskName,
        unsuitable: RowFault | None,
    ) -> None:
        self.form: FormatName | None = form
        self.columns = columns
        self.task: TaskName = task
        self.unsuitable = unsuitable
        self.used = used_columns(form, columns) if form else set[str]()
        self.samples: list[Sample] = []
        self.faults: list[RowFault] = [unsuitable] if unsuitable else []
        self.reasons: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.rows_read = 0
        self.with_nul: list[str] = []

    def check(self, row: Row | RowFault) -> None:
        if isinstance(row, RowFault):
            self.rows_read += int(row.line > 0)
            self._refuse([row])
            return
        self.rows_read += 1
        if self.unsuitable is not None or self.form is None:
            self.reasons[self.unsuitable.reason if self.unsuitable else "no known form"] += 1
            return
        own_form = find_format(row.values.keys(), self.columns)
        if own_form and own_form != self.form and not self._has_needed(row, self.form):
            self._refuse([self._mixed(row, own_form)])
            return
        sample = to_sample(row, self.form, self.task, self.columns)
        if isinstance(sample, list):
            self._refuse(sample)
            return
        self.samples.append(sample)
        self.ignored.update(name for name in row.values if name not in self.used)
        if any("\0" in text for text in texts_of(sample)):
            self.with_nul.append(row.row_id)

    def _has_needed(self, row: Row, form: FormatName) -> bool:
        return all(self.columns.get(column, column) in row.values for column in FORMATS[form].needs)

    def _mixed(self, row: Row, own_form: FormatName) -> RowFault:
        place = RowFault(
            file=row.file,
            line=row.line,
            row_id=row.row_id,
            row=row.number if row.in_array else None,
        )
        return place.saying(
            found=f"a row of form {own_form}",
            expected=f"form {self.form} as in the rest of the file",
            fix="put rows of each form into a file of their own",
            reason="mixed forms in one file",
        )

    def _refuse(self, faults: list[RowFault]) -> None:
        self.faults += faults
        self.reasons.update({fault.reason for fault in faults if fault.line > 0})

    def result(self, file: str) -> CheckedData:
        notes = (
            (
                Note(
                    "a NUL character in a text, kept as it is", len(self.with_nul), self.with_nul[0]
                ),
            )
            if self.with_nul
            else ()
        )
        return CheckedData(
            file=file,
            format=self.form,
            rows_read=self.rows_read,
            samples=tuple(self.samples),
            faults=tuple(self.faults),
            reasons=tuple(self.reasons.most_common()),
            ignored_columns=tuple(self.ignored.most_common()),
            notes=notes,
        )
