"""Checks row after row against what was judged of the file, and keeps the tally."""

from __future__ import annotations

import json
from dataclasses import replace

from tunesmith.data.control_text import find_control_text
from tunesmith.data.conversation import Sample, texts_of
from tunesmith.data.fields import MISSING, ReadOptions, lookup
from tunesmith.data.formats import (
    FORMATS,
    Format,
    FormatName,
    ReadRow,
    find_format,
    form_of,
    read_row,
)
from tunesmith.data.forms.preference import MARKS
from tunesmith.data.judgement import Judgement
from tunesmith.data.repair import excerpt, repair_text, repair_values
from tunesmith.data.row import Row, RowFault, place_of, printable
from tunesmith.data.tally import MAX_KEPT, Tally
from tunesmith.recipe.data import DataPart

NUL_NOTE = "a NUL character in a text, kept as it is"
CONTROL_NOTE = "a control token written in a text, such as"


class RowChecker:
    """Takes rows one by one. `last_faults` are those of the row that came last."""

    def __init__(self, judgement: Judgement, part: DataPart) -> None:
        self.judgement = judgement
        self.tally = Tally()
        self.last_faults: list[RowFault] = []
        if judgement.unsuitable is not None:
            self.tally.refuse([judgement.unsuitable.printable()])
        self._form = form_of(judgement.form, asked=judgement.asked) if judgement.form else None
        self._is_auto = part.format == "auto"
        self._typed = _typed_columns(self._form, judgement)
        self._group = part.group
        read = [*judgement.columns.values(), *([part.group] if part.group else [])]
        self._used = {_outermost(name) for name in read}
        self._needed = _needed_columns(self._form, judgement)
        self._marks = MARKS - self._used
        self._options = ReadOptions(
            task=judgement.task,
            turn_order=part.turn_order,
            has_system=part.system is not None,
            asked=judgement.asked,
            several_labels=judgement.several_labels,
        )

    def check(self, row: Row | RowFault) -> Sample | None:
        """Return the row's sample, or None where it has a fault."""
        self.last_faults = []
        if isinstance(row, RowFault):
            self.tally.rows_read += row.is_of_row
            self._refuse([self._corrected_text(row)])
            return None
        self.tally.rows_read += 1
        if self._form is None or self.judgement.unsuitable is not None:
            self._leave_out(row)
            return None
        other = None if self.judgement.asked else self._other_form(row, self._form)
        if other is not None:
            self._refuse([*self._faults_as(row, other), self._mixed(row, other)])
            return None
        self._note_types(row)
        read = read_row(row, self._form, self.judgement.columns, self._options)
        if read.sample is None:
            self._refuse([self._corrected_value(row, fault) for fault in read.faults])
            return None
        if self._group and (fault := _group_fault(row, self._group)):
            self._refuse([fault])
            return None
        self._note(row, read, read.sample)
        return read.sample

    def _leave_out(self, row: Row) -> None:
        unsuitable = self.judgement.unsuitable
        if unsuitable is not None:
            self.tally.leave_out(row.row_id, [unsuitable.reason])
            return
        fault = place_of(row).saying(
            found=f"no known form has the columns {', '.join(row.values) or '(none)'}",
            expected="the columns of one form",
            fix="set data.format and data.columns",
            reason="no known form",
        )
        self._refuse([fault])

    def _other_form(self, row: Row, form: Format) -> FormatName | None:
        """Return the form of a row that is not of the file's form."""
        names = row.values.keys()
        is_marked = not self._marks.isdisjoint(names)
        has_needed = self._needed <= names
        if has_needed and not (is_marked and self._is_auto):
            return None
        own = find_format(row.values, self.judgement.given, self.judgement.task)
        if own == form.name or (has_needed and own != "preference"):
            return None
        return own

    def _faults_as(self, row: Row, other: FormatName) -> tuple[RowFault, ...]:
        """Return what would be wrong with a row in its own form, too."""
        form = FORMATS[other]
        names = form.fit(form, row.values, self.judgement.given) or {}
        return read_row(row, form, names, self._options).faults

    def _mixed(self, row: Row, other: FormatName) -> RowFault:
        return place_of(row).saying(
            found=f"a row of form {other}",
            expected=f"form {self.judgement.form} as in the rest of the file",
            fix="put rows of each form into a file of their own",
            reason="mixed forms in one file",
        )

    def _refuse(self, faults: list[RowFault]) -> None:
        self.last_faults = [fault.printable() for fault in faults]
        self.tally.refuse(self.last_faults)

    def _note(self, row: Row, read: ReadRow, sample: Sample) -> None:
        unread = (name for name in row.values if name not in self._used)
        self.tally.ignored.update(map(printable, unread))
        if read.unread:
            self.tally.ignored.update(map(printable, read.unread))
        for what in {*read.notes, *_notes_on(texts_of(sample))}:
            self.tally.note(printable(what), row)

    def _note_types(self, row: Row) -> None:
        for column in self._typed:
            value = lookup(row.values, column)
            if value is not None and value is not MISSING:
                self.tally.note_type(column, value, row)

    def _corrected_text(self, fault: RowFault) -> RowFault:
        """Return a fault that holds no row's text any more, but what the row should be."""
        if not fault.raw:
            return fault
        is_kept = len(self.tally.row_faults) < MAX_KEPT
        mended = repair_text(fault.raw) if is_kept else None
        return replace(fault, raw="", corrected=excerpt(fault.raw, mended) if mended else "")

    def _corrected_value(self, row: Row, fault: RowFault) -> RowFault:
        if len(self.tally.row_faults) >= MAX_KEPT:
            return fault
        mended = repair_values(row.values, fault.field, fault.reason, fault.expected)
        if mended is None:
            return fault
        return replace(fault, corrected=excerpt(json.dumps(row.values, ensure_ascii=False), mended))


def _group_fault(row: Row, name: str) -> RowFault | None:
    """Say what is wrong with the value by which rows are kept on one side."""
    value = lookup(row.values, name)
    if isinstance(value, str | int | float) and value != "":
        return None
    found = "nothing" if value in (MISSING, None, "") else f"a {type(value).__name__}"
    return place_of(row).saying(
        field=name,
        found=found,
        expected="a text or a number, the same in all rows of a group",
        fix="write it, or name another column in data.group",
        reason="a row without its group",
    )


def _typed_columns(form: Format | None, judgement: Judgement) -> list[str]:
    """Return the file's names of the columns whose values should all be of one type."""
    columns = form.columns if form else ()
    return [judgement.columns[column.word] for column in columns if not column.within]


def _needed_columns(form: Format | None, judgement: Judgement) -> frozenset[str]:
    needs = form.needs if form else ()
    return frozenset(_outermost(judgement.columns[word]) for word in needs)


def _outermost(name: str) -> str:
    return name.partition(".")[0]


def _notes_on(texts: list[str]) -> set[str]:
    notes = {NUL_NOTE for text in texts if "\0" in text}
    for text in texts:
        found = find_control_text(text)
        if found:
            notes.add(f"{CONTROL_NOTE} {found}")
    return notes
