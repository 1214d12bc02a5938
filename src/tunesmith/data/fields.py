"""Reads the columns of one row as texts and lists, and collects what is wrong with them."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from tunesmith.data.json_text import JsonText, NotJsonError, type_name
from tunesmith.data.rows import RowFault
from tunesmith.recipe.task import TaskName as TaskName

# Tasks whose answer any conversation may hold: its last reply.
WRITTEN_TASKS: tuple[TaskName, ...] = (
    "chat",
    "translation",
    "summarization",
    "classification",
    "qa",
)
# Tasks that a layer of its own learns, in place of the one that writes text.
HEAD_TASKS: tuple[TaskName, ...] = (
    "classification-head",
    "ner-head",
    "ner-head-causal",
    "qa-head",
)
Columns = Mapping[str, str]  # a form's own word for a column -> the file's name


class _Missing:
    """The type of MISSING."""


MISSING: Final = _Missing()  # what a row gives for a column that it does not have


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the recipe says of every row. `has_system`: it brings a system message of its own.

    `asked` where rows are only asked, so that each may lack its answer, or end before it;
    `several_labels` where a text that is asked has several classes, as a list of them would show.
    """

    task: TaskName = "chat"
    turn_order: Literal["strict", "merge"] = "strict"
    has_system: bool = False
    asked: bool = False
    several_labels: bool = False


class FieldReader:
    """The columns of a row under a form's own words, and the faults found so far.

    A value that cannot be read comes back empty, so that reading goes on and finds the other faults
    too. `notes` are remarks that are no faults; `unread` are keys inside a column that mean nothing
    here.
    """

    def __init__(
        self,
        place: RowFault,
        values: Mapping[str, Any],
        columns: Columns,
        options: ReadOptions | None = None,
    ) -> None:
        self.place = place
        self.values = values
        self.columns = columns
        self.options = options or ReadOptions()
        self.faults: list[RowFault] = []
        self.notes: list[str] = []
        self.unread: set[str] = set()

    def name(self, word: str) -> str:
        """Return the file's name of a column."""
        return self.columns.get(word, word)

    def value(self, word: str) -> object:
        """Return a column's value, or MISSING."""
        return lookup(self.values, self.columns.get(word, word))

    def has(self, word: str) -> bool:
        """Say whether the row has a value in a column."""
        return self.value(word) not in (None, MISSING)

    def fault(self, field: str, found: str, expected: str, *, reason: str, fix: str = "") -> None:
        """Note a fault of this row."""
        self.faults.append(
            self.place.saying(found=found, expected=expected, fix=fix, reason=reason, field=field)
        )

    def note(self, what: str) -> None:
        """Note something that is no fault and should be known."""
        if what not in self.notes:
            self.notes.append(what)

    def text(self, word: str, *, may_be_empty: bool = True) -> str:
        """Return the text of a column that must be there."""
        value = self.value(word)
        if value is MISSING:
            self.missing(word, "a string")
            return ""
        return self.check_text(self.name(word), value, may_be_empty=may_be_empty)

    def lacks_answer(self, word: str) -> bool:
        """Say whether a row that is only asked has nothing in an answer's column."""
        if not self.options.asked:
            return False
        value = self.value(word)
        is_blank = isinstance(value, str) and not value.strip()
        return value is MISSING or value is None or value == [] or is_blank

    def answer(self, word: str) -> str:
        """Return the text of an answer; empty where the row is only asked and has none."""
        return "" if self.lacks_answer(word) else self.text(word, may_be_empty=False)

    def optional_text(self, word: str) -> str:
        """Return the text of a column that may be absent or null."""
        value = self.value(word)
        if value is None or value is MISSING:
            return ""
        return self.check_text(self.name(word), value)

    def optional_list(self, word: str) -> list[Any]:
        """Return the list of a column that may be absent, null, or JSON text of a list."""
        value = self.structured(word)
        if value is None or value is MISSING:
            return []
        if not isinstance(value, list):
            self.wrong_type(self.name(word), value, "list")
            return []
        return cast("list[Any]", value)

    def structured(self, word: str) -> object:
        """Return a column's value, decoded where it is JSON text of a list or an object."""
        value = self.value(word)
        if not isinstance(value, str):
            return value
        text = value.strip()
        if not text:
            return None
        return self.decode(self.name(word), text) if text[0] in "[{" else value

    def listed(self, word: str) -> list[Any]:
        """Return a column's list, or the list that its text is, in JSON or in Python's writing."""
        value = self.value(word)
        if isinstance(value, str):
            value = from_literal(value)
        if value is MISSING:
            self.missing(word, "a list")
        elif not isinstance(value, list):
            self.wrong_type(self.name(word), self.value(word), "list, or a text that is one")
        else:
            return cast("list[Any]", value)
        return []

    def decode(self, field: str, text: str, *, what: str = "the text") -> object:
        """Return what a JSON text holds, or MISSING with a fault where it is broken."""
        try:
            value, _, oddities = JsonText().decode(text, 0, alone=True)
        except NotJsonError as error:
            self.fault(
                field, f"{what} is not JSON: {error.cause} at column {error.column}", "JSON text",
                fix=error.fix, reason="not JSON",
            )  # fmt: skip
            return MISSING
        for odd in oddities:
            self.fault(field, odd.found, odd.expected, fix=odd.fix, reason=odd.reason)
        return MISSING if oddities else value

    def check_text(self, field: str, value: object, *, may_be_empty: bool = True) -> str:
        """Return a value that must be a text."""
        if not isinstance(value, str):
            self.wrong_type(field, value, "string")
            return ""
        if not may_be_empty and not value.strip():
            self.fault(field, "an empty text", "a text", reason="empty text")
        if not value.isascii():
            self._check_surrogates(field, value)
        return value

    def missing(self, word: str, expected: str) -> None:
        """Note that a column is not there."""
        name = self.name(word)
        self.fault(name, f'no column "{name}" in this row', expected, reason="missing column")

    def wrong_type(self, field: str, value: object, expected: str) -> None:
        """Note that a value is of another type."""
        reason = "null instead of a text" if value is None else "wrong type"
        fix = "write the text, or remove the row" if value is None else ""
        if expected == "string" and value is not None:
            fix = "put it in quotes" if isinstance(value, (int, float)) else "write a text"
        self.fault(field, f"got {type_name(value)}", expected, reason=reason, fix=fix)

    def _check_surrogates(self, field: str, value: str) -> None:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            self.fault(
                field,
                f"a lone surrogate \\u{code:04x} at character {error.start + 1}",
                "whole characters",
                fix="remove it, or write both halves of the character",
                reason="lone surrogate",
            )


def from_literal(text: str) -> object:
    """Return the list or object that a text is, in JSON or in Python's writing; else the text."""
    start = text.lstrip()[:1]
    if start not in ("[", "{"):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def lookup(values: Mapping[str, Any], name: str) -> object:
    """Return the value of a column, or of the nested one that a dotted name leads to."""
    if name in values:
        return values[name]
    if "." not in name:
        return MISSING
    inner: object = values
    for step in name.split("."):
        if not isinstance(inner, Mapping) or step not in inner:
            return MISSING
        inner = cast("Mapping[str, object]", inner)[step]
    return inner
