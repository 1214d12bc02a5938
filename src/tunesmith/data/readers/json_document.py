"""Rows of one JSON value: an array of objects, or an object that holds them.

    [{...}, {...}]                                 an array
    {"version": 1, "data": [{...}, {...}]}         the one list of objects in an object
    {"result": {"rows": [{...}]}}                  the list at data.rows_at, here result.rows
    {"prompt": ["a", "b"], "completion": [...]}    columns, all of one length
    {"messages": [...]}                            a single row

Lists of rows are read element after element. Only columns and a single row are held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from tunesmith.data.data_file import DataFile, FileOptions
from tunesmith.data.json_text import NotJsonError, type_name
from tunesmith.data.readers.json_object import KeptFields, is_list_of_a_row, is_one_row_a_line
from tunesmith.data.readers.json_row import not_json, odd, to_row, with_raw
from tunesmith.data.readers.json_stream import JsonStream, Value
from tunesmith.data.readers.json_walk import elements, keys
from tunesmith.data.readers.lines import explain_bad_bytes
from tunesmith.data.readers.opened import open_text
from tunesmith.data.readers.squad import flatten
from tunesmith.data.row import Row, RowFault, Skipped, place_at

Items = Iterator[Row | RowFault | Skipped]


def read_document(file: DataFile, options: FileOptions) -> Items:
    """Yield the rows of a JSON file; what ends the reading early comes last, as a fault."""
    with open_text(file.path, file.shown) as opened:
        stream = JsonStream(opened)
        rows = _Rows(file.shown, stream)
        try:
            if stream.take("["):
                yield from rows.of_list("")
                _end(stream)
            elif options.rows_at is not None:
                path = options.rows_at.split(".")
                yield from _read_at(path, options.rows_at, stream, rows)
                _end(stream)
            else:
                yield from _read_object(file, stream, rows)
        except NotJsonError as error:
            yield rows.stop(error)


class _Rows:
    """Numbers the rows of one file, wherever in it they stand."""

    def __init__(self, shown: str, stream: JsonStream) -> None:
        self.shown = shown
        self.stream = stream
        self.number = 0
        self.is_in_list = False

    def of_list(self, name: str) -> Items:
        """Yield the rows of a list whose bracket is passed, or that it is empty."""
        before = self.number
        self.is_in_list = True
        for value in elements(self.stream):
            yield from self._of_value(value)
        self.is_in_list = False
        if self.number == before:
            yield RowFault(
                file=self.shown,
                found=f"the list {name} is empty" if name else "the array is empty",
                expected="at least one row",
                fix="put the rows into it, as objects",
                reason="empty file",
            )

    def stop(self, error: NotJsonError) -> RowFault:
        """Return the fault that ends the reading."""
        number = self.number + 1 if self.is_in_list else None
        fault = not_json(place_at(self.shown, error.line, number), error)
        return replace(fault, spoils_file=True)

    def _of_value(self, value: Value) -> Items:
        articles = flatten(value.value) if value.is_good else None
        if articles is None:
            self.number += 1
            yield self._of_element(value)
            return
        if not articles:
            yield Skipped(self.shown, "articles without a question", 1, value.line)
        for values in articles:
            self.number += 1
            yield Row(self.shown, value.line, values, self.number, in_array=True)

    def _of_element(self, value: Value) -> Row | RowFault:
        if value.is_good:
            return Row(self.shown, value.line, value.value, self.number, in_array=True)
        place = place_at(self.shown, value.line, self.number)
        if value.bad_byte is not None:
            return explain_bad_bytes(place, value.bad_byte, value.offset)
        if value.oddities:
            return with_raw(odd(place, value.oddities[0]), value.raw)
        return to_row(value.value, place, self.number, value.raw)


def _read_object(file: DataFile, stream: JsonStream, rows: _Rows) -> Items:
    stream.peek()
    kept = KeptFields(file.shown, stream.line)
    list_at = ""
    for key in keys(stream):
        if is_list_of_a_row(key) or not stream.take("["):
            kept.add(key, stream.value())
        elif stream.peek() != "{":
            kept.add_list(key, elements(stream))
        elif list_at:
            yield _two_lists(file, list_at, key)
            return
        else:
            list_at = key
            yield from rows.of_list(key)
    if list_at:
        _end(stream)
        return
    if is_one_row_a_line(file.path) and stream.line > kept.line:
        yield _over_several_lines(file)
        return
    _end(stream)
    yield from kept.rows()


def _read_at(path: list[str], rows_at: str, stream: JsonStream, rows: _Rows) -> Items:
    """Go down the path of keys to a list, and on to the end of each object on the way."""
    seen: list[str] = []
    for key in keys(stream):
        seen.append(key)
        if key != path[0] or seen.count(key) > 1:
            stream.value()
        elif len(path) == 1 and stream.take("["):
            yield from rows.of_list(rows_at)
        elif len(path) > 1 and stream.peek() == "{":
            yield from _read_at(path[1:], rows_at, stream, rows)
        else:
            yield _other_at(rows_at, key, stream.value().value, rows.shown)
    if path[0] not in seen:
        yield _nothing_at(rows_at, path, seen, rows.shown)


def _nothing_at(rows_at: str, path: list[str], seen: list[str], shown: str) -> RowFault:
    what = "list" if len(path) == 1 else "object"
    return RowFault(
        file=shown,
        found=f'data.rows_at is {rows_at}, and there is no {what} "{path[0]}" there',
        expected="a list of objects at that path",
        fix=f"set data.rows_at to where the list is; the keys there are {', '.join(seen[:9])}",
        reason="no list of rows",
    )


def _other_at(rows_at: str, key: str, value: object, shown: str) -> RowFault:
    """Return what to say of a value on the path that leads no further, or is no list at its end."""
    inner = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    lists = [f"{rows_at}.{name}" for name, one in inner.items() if isinstance(one, list)]
    near = f", such as {lists[0]}" if lists else ""
    return RowFault(
        file=shown,
        found=f'data.rows_at is {rows_at}, and "{key}" there is {type_name(value, article=True)}',
        expected="a list of objects at that path",
        fix=f"set data.rows_at to where the list is{near}",
        reason="no list of rows",
    )


def _end(stream: JsonStream) -> None:
    if stream.peek() == "{":
        raise stream.error("more than one value", "name a file of one object a line .jsonl")
    if stream.peek():
        raise stream.error("more than one value", "end the file with the array or the object")


def _two_lists(file: DataFile, first: str, second: str) -> RowFault:
    return RowFault(
        file=file.shown,
        found=f"the object holds more than one list of objects: {first} and {second}",
        expected="one list of rows",
        fix=f"set data.rows_at to the one to read, such as {first}",
        reason="no list of rows",
    )


def _over_several_lines(file: DataFile) -> RowFault:
    return replace(
        place_at(file.shown, 1),
        found="line 1 opens an object that goes on over several lines",
        expected="one whole object a line, or one JSON array of objects",
        fix="write each row on one line, or put the rows between [ and ]",
        reason="not JSON",
        spoils_file=True,
    )
