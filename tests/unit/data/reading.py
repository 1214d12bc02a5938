"""Reads one row as a test gives it."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.data.conversation import Conversation, Message, Preference, Sample
from tunesmith.data.fields import ReadOptions
from tunesmith.data.formats import FORMATS, ReadRow, TaskName, find_format, read_row
from tunesmith.data.rows import Row, RowFault


def read(
    values: dict[str, Any],
    *,
    task: TaskName = "chat",
    turn_order: Literal["strict", "merge"] = "strict",
    columns: dict[str, str] | None = None,
    has_system: bool = False,
) -> ReadRow:
    """Read a row in the form that its columns give it."""
    name = find_format(values, columns, task)
    assert name is not None, f"no form has the columns {list(values)}"
    form = FORMATS[name]
    names = form.fit(form, values, columns or {})
    assert names is not None
    options = ReadOptions(task=task, turn_order=turn_order, has_system=has_system)
    return read_row(Row("d.jsonl", 3, values, 1), form, names, options)


def good(values: dict[str, Any], **options: Any) -> Sample:
    """Return the sample of a row without a fault."""
    result = read(values, **options)
    assert result.sample is not None, result.faults
    return result.sample


def chat(values: dict[str, Any], **options: Any) -> Conversation:
    """Return the conversation of a row without a fault."""
    sample = good(values, **options)
    assert isinstance(sample, Conversation), sample
    return sample


def preference(values: dict[str, Any], **options: Any) -> Preference:
    """Return the preference of a row without a fault."""
    sample = good(values, task="preference", **options)
    assert isinstance(sample, Preference), sample
    return sample


def faults(values: dict[str, Any], **options: Any) -> tuple[RowFault, ...]:
    """Return the faults of a row that has some."""
    result = read(values, **options)
    assert result.sample is None, result.sample
    return result.faults


def only_fault(values: dict[str, Any], **options: Any) -> RowFault:
    """Return the one fault of a row."""
    (fault,) = faults(values, **options)
    return fault


def said(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    """Return who says what."""
    return [(message.role, message.content) for message in messages]
