"""From a row's columns to a sample: one table of forms, found by the columns or named.

A row of any form gives a sample or all the faults that keep it from being one. Nothing is coerced:
a number where a text belongs is a fault, because the writer of the file meant one or the other. (A
class may be a text or an integer: it is its text.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.data.conversation import Sample
from tunesmith.data.fields import Columns, FieldReader, ReadOptions, TaskName
from tunesmith.data.forms.chat import ALPACA, MESSAGES, PROMPT_COMPLETION, SHAREGPT, TEXT
from tunesmith.data.forms.choices import MULTIPLE_CHOICE
from tunesmith.data.forms.entities import ENTITIES
from tunesmith.data.forms.form import Format, FormatName
from tunesmith.data.forms.labelled import CLASSIFICATION, NER
from tunesmith.data.forms.preference import PREFERENCE
from tunesmith.data.forms.qa import QA
from tunesmith.data.forms.rewriting import SUMMARIZATION, TEXT_GENERATION, TRANSLATION
from tunesmith.data.rows import Row, RowFault, place_of

__all__ = [
    "FORMATS",
    "Columns",
    "Format",
    "FormatName",
    "ReadRow",
    "TaskName",
    "find_asked_formats",
    "find_format",
    "form_of",
    "read_row",
    "to_sample",
]

# In the order in which they are tried: the richer form first, plain text last. A preference row
# often brings a whole conversation too, and must not be taken for one to imitate.
FORMATS: dict[FormatName, Format] = {
    form.name: form
    for form in (
        PREFERENCE,
        MESSAGES,
        SHAREGPT,
        ALPACA,
        MULTIPLE_CHOICE,
        PROMPT_COMPLETION,
        QA,
        NER,
        SUMMARIZATION,
        TEXT_GENERATION,
        CLASSIFICATION,
        TRANSLATION,
        ENTITIES,
        TEXT,
    )
}

# The same for rows that are only asked.
_TO_ASK = {name: form.to_ask() for name, form in FORMATS.items()}


@dataclass(frozen=True, slots=True)
class ReadRow:
    """What a row gave: the sample, or None with its faults; remarks; keys that mean nothing."""

    sample: Sample | None
    faults: tuple[RowFault, ...]
    notes: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


def find_format(
    values: Mapping[str, Any], columns: Columns | None = None, task: TaskName | None = None
) -> FormatName | None:
    """Return the form that a row has: of several, the first that serves the task."""
    given = columns or {}
    if PREFERENCE.fit(PREFERENCE, values, given) is not None:
        return PREFERENCE.name
    fitting = [form for form in FORMATS.values() if form.fit(form, values, given) is not None]
    serving = [form for form in fitting if task is None or task in form.tasks]
    return next((form.name for form in (*serving, *fitting)), None)


def find_asked_formats(
    values: Mapping[str, Any], columns: Columns | None = None, task: TaskName | None = None
) -> tuple[FormatName, ...]:
    """Return the forms that a row which is only asked may have: several where it has no answer.

    A row of a preference without its answers looks like one of messages or of a prompt.
    """
    given = columns or {}
    complete = find_format(values, given, task)
    if complete and (task is None or task in FORMATS[complete].tasks):
        return (complete,)
    asked = [form for form in _TO_ASK.values() if form.name != PREFERENCE.name]
    fitting = [form for form in asked if form.fit(form, values, given) is not None]
    serving = [form for form in fitting if task is None or task in form.tasks]
    return tuple(form.name for form in serving or fitting)


def form_of(name: FormatName, *, asked: bool = False) -> Format:
    """Return a form of the table, as it is for rows that are only asked where they are."""
    return _TO_ASK[name] if asked else FORMATS[name]


def to_sample(
    row: Row, format: FormatName, task: TaskName, columns: Columns | None = None
) -> Sample | list[RowFault]:
    """Read one row in the given form; `columns` are the recipe's names."""
    form = FORMATS[format]
    names = form.fit(form, row.values, columns or {}) or form.named(columns or {})
    result = read_row(row, form, names, ReadOptions(task=task))
    return list(result.faults) if result.sample is None else result.sample


def read_row(row: Row, form: Format, names: Columns, options: ReadOptions) -> ReadRow:
    """Read one row, its form's columns under the given names."""
    reader = FieldReader(place_of(row), row.values, names, options)
    sample = form.read(reader)
    unread = frozenset(reader.unread)
    if reader.faults:
        return ReadRow(None, tuple(reader.faults), tuple(reader.notes), unread)
    sample = replace(sample, row_id=reader.place.row_id, file=row.file, line=row.line)
    return ReadRow(sample, (), tuple(reader.notes), unread)
