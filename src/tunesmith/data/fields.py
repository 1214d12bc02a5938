"""Reads the columns of one row as texts and lists, and collects what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tunesmith.data.json_text import type_name
from tunesmith.data.rows import RowFault


class FieldReader:
    """The columns of a row under a form's own names, and the faults found so far.

    A value that cannot be read comes back empty, so that reading goes on and finds the other faults
    too.
    """

    def __init__(
        self, place: RowFault, values: Mapping[str, Any], columns: Mapping[str, str]
    ) -> None:
        self.place = place
        self.values = values
        self.columns = columns
        self.faults: list[RowFault] = []

    def name(self, column: str) -> str:
        """Return the file's name of a column."""
        return self.columns.get(column, column)

    def fault(self, field: str, found: str, expected: str, *, reason: str, fix: str = "") -> None:
        """Note a fault of this row."""
        self.faults.append(
            self.place.saying(found=found, expected=expected, fix=fix, reason=reason, field=field)
        )

    def text(self, column: str, *, may_be_empty: bool = True) -> str:
        """Return the text of a column that must be there."""
        name = self.name(column)
        if name not in self.values:
            self.fault(name, f'no column "{name}" in this row', "a string", reason="missing column")
            return ""
        return self.check_text(name, self.values[name], may_be_empty=may_be_empty)

    def optional_text(self, column: str) -> str:
        """Return the text of a column that may be absent or null."""
        value = self.values.get(self.name(column))
        return "" if value is None else self.check_text(self.name(column), value)

    def optional_list(self, column: str) -> list[Any]:
        """Return the list of a column that may be absent or null."""
        name = self.name(column)
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong_type(name, value, "list")
            return []
        return cast("list[Any]", value)

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

    def wrong_type(self, field: str, value: object, expected: str) -> None:
        """Note that a value is of another type."""
        reason = "null instead of a text" if value is None else "wrong type"
        fix = "write the text, or remove the row" if value is None else ""
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
